"""The head of the report: the headline with its interval and baseline, what to do next, and what it costs to use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..artifact.artifact import Artifact
from ..artifact.record import Record
from ..errors import counted
from ..evaluation.evaluation import Evaluation
from ..splits.groups import NEAR_DUPLICATES
from ..telling.display import between, measure, metric_name, percent
from ..trust.caveats import OVERFITTED
from .gallery import predicted_class
from .names import Names

STEPS = 5  # what to do next, at most
WIDE = 0.1  # width of an interval that more test images should make narrower
GOOD = 0.97  # of the headline; from here on nothing is said about raising it
FEW = 50  # training images of a class
WORTH = 0.01  # of the headline, by twice as many images, from which more of them are asked for
CERTAIN = 0.9  # probability of a wrong answer that makes its label suspicious


@dataclass(frozen=True)
class Step:
    """Something to do next: a sentence, a command that does it, and the section that shows why."""

    words: str
    command: str = ""
    section: str = ""


def headline(evaluation: Evaluation) -> dict[str, str]:
    """Return the most important number, its interval in words, and what guessing would give."""
    metric = evaluation.headline
    interval, name = evaluation.bootstrap(metrics=[metric])[metric], metric_name(metric)
    ends = "" if interval is None else f" (95 % interval {between(interval, metric)})"
    return {
        "metric": name,
        "value": measure(evaluation[metric], metric),
        "words": f"{name} on {counted(len(evaluation.labels), evaluation.split + ' image')}{ends}",
        "baseline": baseline(evaluation),
    }


def baseline(evaluation: Evaluation) -> str:
    """Say what an answer that looks at no image would be worth."""
    share = percent(evaluation.baseline)
    if evaluation.multi_label:
        return f"Random answers would have an average precision of {share}."
    counts = np.bincount(evaluation.labels, minlength=len(evaluation.class_names))
    name = evaluation.class_names[counts.argmax()]
    alike = "a frequent class" if (counts == counts.max()).sum() > 1 else "the most frequent class"
    return f"Always answering “{name}”, {alike}, would be right for {share}."


def copies(evaluation: Evaluation) -> str:
    """Say what the headline would be if each picture counted once; empty if no image is a copy of another."""
    if (once := evaluation.without_copies) is None:
        return ""
    number, metric = len(evaluation.labels) - len(once.labels), evaluation.headline
    told = f"{counted(number, 'image')} {'is a copy' if number == 1 else 'are copies'} of others: "
    return told + f"if each picture counts once, {metric_name(metric)} is {measure(once[metric], metric)}."


def selected_on(split: str) -> str:
    """Say what was selected on the images that judge, and so how honest the results are; empty for other images.

    >>> selected_on("test")
    'Nothing was selected on these.'
    """
    flattered = "so that all results are"
    return {
        "test": "Nothing was selected on these.",
        "validation": f"The weights were selected on these, {flattered} optimistic.",
        "cross-validation": "Each was judged by a training that had not seen it; the head was chosen by the same "
        f"images, {flattered} a little optimistic.",
    }.get(split, "")


def sentences(record: Record, evaluation: Evaluation | None) -> list[str]:
    """Return what a reader should know besides the headline."""
    told = [copies(evaluation)] if evaluation is not None and evaluation.without_copies else []
    if evaluation is not None and evaluation.split == "validation":
        told.append("There was no test split: all results are on images that the weights were selected on.")
    name = "accuracy" if evaluation is None else evaluation.headline
    gap = record.summary.get("gap", {}).get(name)
    if gap is not None:
        points, lower = f"{abs(100 * gap):.1f} percentage points", "lower, so selection flattered nothing"
        apart = f"{points} {'higher: selection made it look better than it is' if gap > 0 else lower}"
        apart = "the same" if points.startswith("0.0 ") else apart
        told.append(f"On the validation images, which the weights were selected on, {metric_name(name)} is {apart}.")
    return [*told, *(f"{each[:1].upper()}{each[1:]}." for each in record.summary.get("caveats", ()))]


def next_steps(artifact: Artifact, evaluation: Evaluation | None) -> list[Step]:
    """Return what would help most, most important first, and how to use the classifier."""
    names = Names(artifact.record)
    if evaluation is None:
        command = f"vggft evaluate {names.classifier} FOLDER"
        return [Step("Evaluate it on images with labels that it has not seen.", command)]
    found = list(_improvements(artifact, evaluation, names))[: STEPS - 1]
    return [*found, Step("Try it on new images in the browser.", f"vggft serve {names.classifier}")]


def _improvements(artifact: Artifact, evaluation: Evaluation, names: Names) -> Iterator[Step]:
    metric, value = evaluation.headline, evaluation[evaluation.headline] or 0.0
    interval = evaluation.intervals[metric]
    if evaluation.split == "validation":
        yield Step("Set a fifth of the images aside for an honest test.", names.again("test", 0.2))
    yield from _doubts(artifact, names)
    certain = [
        each
        for each in evaluation.top_losses(100)
        if each.wrong
        and not evaluation.multi_label
        and evaluation.probabilities[each.row, predicted_class(evaluation, each.row)] >= CERTAIN
    ]
    if certain and not any(row["suggested"] for row in artifact.record.insight.doubts.labels):
        told = f"{counted(len(certain), 'image')} {'was' if len(certain) == 1 else 'were'} predicted against the label"
        yield Step(f"{told} with a certainty of {CERTAIN:.0%} or more: check that first.", section="mistakes")
    if value < GOOD:
        yield from _trainings(artifact, evaluation, value, names)
    if pairs := evaluation.most_confused(1):
        true, predicted, images = pairs[0]
        if images > 1:
            words = f"“{true}” was most often taken for “{predicted}” ({images} times). "
            words += "Look at these images: could you tell them apart?"
            yield Step(words, section="confusion")
    if interval is not None and interval[1] - interval[0] > WIDE and evaluation.split == "test":
        words = f"The true value may lie anywhere from {between(interval, metric)}, as it was measured on "
        words += f"{counted(len(evaluation.labels), 'image')}. Four times as many test images would halve that range."
        yield Step(words)


def _doubts(artifact: Artifact, names: Names) -> Iterator[Step]:
    """Yield what is doubtful in the data."""
    doubts = artifact.record.insight.doubts
    if number := sum(row["suggested"] for row in doubts.labels):
        which = "this label" if number == 1 else f"these {number} labels"
        yield Step(f"Look at {which}: probes that had not seen the images think that they are wrong.", section="labels")
    if groups := len({row["group"] for row in doubts.twins if row["leak"]}):
        told = (
            f"{counted(groups, 'group')} of near-duplicates {'is' if groups == 1 else 'are'} in several splits, which"
        )
        # A run has one kind of groups: these would divide those that it was given.
        again = "" if artifact.record.config.get("group") else names.again("group", NEAR_DUPLICATES)
        yield Step(f"{told} makes the test easier than life.", again, "labels")


def _trainings(artifact: Artifact, evaluation: Evaluation, value: float, names: Names) -> Iterator[Step]:
    """Yield what may raise the headline, by a run that is otherwise the same."""
    description, record = artifact.description, artifact.record
    space = record.config.get("search")
    tried = record.config.get("deeper") or (isinstance(space, Mapping) and space.get("freeze"))
    if description.backbone == "vgg16_mini":
        words = "The small backbone was used; the full one, trained on ImageNet, is usually much better on photographs."
        # A classifier that is trained further keeps its backbone.
        yield Step(words, "" if "start" in record.config else names.again("backbone", "vgg16_imagenet"))
    elif "block5" in description.frozen and not tried:
        words, section = "All blocks were frozen. Training the later ones", "learning" if record.insight.blocks else ""
        if record.search:
            yield Step(f"{words} may help: a search can choose between them too.", section=section)
        else:
            yield Step(
                f"{words} as well may help, and is kept only if it does.", names.again("freeze", "auto"), section
            )
    seen = [row["accuracy"] for row in artifact.history if row.get("kept") and row.get("accuracy") is not None]
    if seen and not evaluation.multi_label and seen[-1] - value > OVERFITTED and not record.config.get("augment"):
        words = "It knows its training images far better than new ones. Changed copies of them may help."
        yield Step(words, names.again("augment"))
    yield from _more_images(artifact, evaluation)


def _more_images(artifact: Artifact, evaluation: Evaluation) -> Iterator[Step]:
    """Yield which images would help, if the curve does not say that none would."""
    growth, counts = artifact.record.insight.growth, artifact.record.class_counts
    if growth is not None and growth.known:
        if growth.gain(growth.images)[0] >= WORTH:
            weakest = evaluation.lowest_f1(1)[0]
            yield Step(
                f"More images would help, of “{weakest.name}” first, the weakest class. {growth}", section="growth"
            )
    elif few := sorted((count, name) for name, count in counts.items() if count < FEW):
        count, name = few[0]
        what = f"“{name}” has only {counted(count, 'image')}"
        if len(few) == len(counts) and few[-1][0] == count:
            what = f"There are only {counted(count, 'image')} of each class"
        yield Step(f"{what}: more of them would probably help.", section="data")


def costs(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what the classifier took and takes: (number, what it is). One image is predicted to measure the time."""
    record, model = artifact.record, artifact.network.model
    found = []
    learning = sum(float(row.get("seconds") or 0) for row in artifact.history)
    if seconds := record.environment.get("seconds"):
        found.append((duration(seconds), "for the whole run"))
    elif learning >= 1:
        found.append((duration(learning), "of training"))
    pixels = np.zeros((1, *artifact.description.size, 3), "float32")
    taken = [_seconds(lambda: np.asarray(model(pixels, training=False))) for _ in range(6)][1:]
    found.append((f"{1000 * min(taken):.0f}\u00a0ms", f"for an image, on {counted(os.cpu_count() or 1, 'core')}"))
    size = sum(weight.dtype.itemsize * weight.size for weight in map(np.asarray, model.get_weights()))
    found.append((f"{size / 1e6:.3g}\u00a0MB", "of weights"))
    return found


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """Write a time in the unit that fits.

    >>> duration(17.4), duration(90), duration(7300)
    ('17\\xa0s', '1.5\\xa0min', '2.0\\xa0h')
    """
    if seconds < 60:
        return f"{seconds:.0f}\u00a0s"
    return f"{seconds / 60:.1f}\u00a0min" if seconds < 3600 else f"{seconds / 3600:.1f}\u00a0h"
