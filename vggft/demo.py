"""The demo: from a folder of images to a report, without a network, in under a minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from .api import finetune
from .classifier import Classifier
from .config import Training
from .errors import RunError
from .evaluation.evaluation import Evaluation
from .evaluation.text import matrix
from .files.writing import whole_folder
from .telling.display import printable
from .tuning.search import search
from .tuning.space import SearchSpace

TRAIN, TEST = 40, 60  # images of each digit
SIDE = 32  # px, the smallest image that the network takes
WIDE, HIGH = 12, 6  # characters of a picture in the terminal
INK = 110  # grey, 0..255, from which a point is drawn
BLOCKS, PLAIN = " \u2580\u2584\u2588", " \u0027.#"  # nothing, the upper half, the lower half, both

OWN_FOLDER = """\
With a folder of your own, which holds one folder of images for each class:
  vggft audit FOLDER
    shows what is in it, and what is wrong with it.
  vggft finetune FOLDER --test 0.2
    makes a classifier, and says how good it is.
  vggft serve RUN
    takes new images in the browser; vggft predict in the shell."""


def run_demo(run_dir: Path, seed: int = 0, quiet: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Tell the story: a folder of digits, a fine-tuning, a search that may beat it, what was learned, the report.

    Args:
        run_dir: a new directory; it will hold `digits`, and the run directories `finetune` and `search`.
        seed: seed of splits, initial weights and order.
        quiet: print nothing.
        console: where to print; None for standard output.

    Returns:
        JSON-ready values: the folders `digits`, `finetune` and `search`, the test accuracy of both runs, and the
        `report`.

    Raises:
        RunError: `run_dir` is not empty.
    """
    if run_dir.exists() and (run_dir.is_file() or any(run_dir.iterdir())):
        raise RunError(f"run_dir {run_dir} is not empty, and the demo never overwrites anything. Name a new directory.")
    story = Story(console or Console(highlight=False), quiet)
    digits = run_dir / "digits"
    write_digits(digits)
    story.chapter(1, "A folder of images")
    story.say(f"{TRAIN} handwritten digits of each class to learn from, and {TEST} to test with, are in {digits}.")
    story.show([next((digits / "train" / name).iterdir()) for name in "03589"], [f"a {name}" for name in "03589"])

    how: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": SIDE, "num_classes": 10, "seed": seed, "verbose": 0}
    story.chapter(2, "Fine-tuning")
    with story.working("The frozen blocks compute features once, and a head learns from them"):
        first = finetune(digits, run_dir=run_dir / "finetune", **how)
    before = judged(first)
    story.say(verdict(before))

    story.chapter(3, "A search that may beat it")
    space = SearchSpace(units=128, layers=1, learning_rate=[1e-3, 3e-3], freeze=["block3"])
    training = Training(epochs=20, fine_tune_epochs=10)
    with story.working("Three trials also train blocks 4 and 5, each with another head"):
        found = search(
            digits, space=space, trials=3, algorithm="random", training=training, run_dir=run_dir / "search", **how
        )
    assert found is not None  # it is None in a worker of a search only
    after = judged(found.classifier)
    story.say(verdict(after))
    story.say(compared(before, after))

    story.chapter(4, "What it learned")
    best = max((first, found.classifier), key=lambda each: judged(each)["accuracy"] or 0)
    evaluation = judged(best)
    rows = worth_showing(evaluation)
    said = [f"{evaluation.labels[row]}: {best.class_names[evaluation.predictions[row]]}" for row in rows]
    story.say("Test images, each with its label and what the classifier says:")
    story.show([evaluation.names[row] for row in rows], said)
    story.say("All of them, true digits in rows and predicted ones in columns:")
    story.say(matrix(evaluation.confusion_matrix, best.class_names))

    report = run_dir / "report.html"
    with story.working("The report is written"):
        best.report(report)
    story.say(f"\n{OWN_FOLDER}\n")
    story.say(f"The report, for the browser: {report}", soft_wrap=True)
    folders = {name: str(run_dir / name) for name in ("digits", "finetune", "search")}
    accuracies = {"finetune_accuracy": before["accuracy"], "search_accuracy": after["accuracy"]}
    return folders | accuracies | {"report": str(report)}


class Story:
    """Prints chapters, sentences and small pictures, with a sign of life while something is computed.

    Args:
        console: where to print.
        quiet: print nothing.
    """

    def __init__(self, console: Console, quiet: bool):
        self.console, self.quiet = console, quiet

    def say(self, text: str, **how: Any) -> None:
        """Print some text; lines that are laid out as a table are not wrapped."""
        if not self.quiet:
            self.console.print(text, **({"markup": False} | how))

    def chapter(self, number: int, title: str) -> None:
        """Print a heading."""
        self.say(f"\n{number} of 4  {title}", style="bold")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that something is being computed; where nothing can move, say it once."""
        if self.quiet or not self.console.is_terminal:
            self.say(f"{what} ...")
            yield
            return
        with self.console.status(f"{what} ..."):
            yield

    def show(self, files: Sequence[str | Path], captions: Sequence[str]) -> None:
        """Print images side by side, as many as fit, each above its caption."""
        most = max(1, (self.console.width + 2) // (WIDE + 2))
        pictures = [drawn(Image.open(file), self.console.encoding) for file in files[:most]]
        rows = [*map("  ".join, zip(*pictures, strict=True))]
        self.say("\n".join([*rows, "  ".join(caption.center(WIDE) for caption in captions[:most]), ""]))


def write_digits(folder: Path) -> None:
    """Write handwritten digits of scikit-learn as a folder with train/ and test/, and a folder for each class inside.

    Which images are for the test is drawn, always in the same way.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    with whole_folder(folder) as aside:
        for digit in range(10):
            rows = [row for row in order if found.target[row] == digit][: TRAIN + TEST]
            for i, row in enumerate(rows):
                path = aside / ("train" if i < TRAIN else "test") / str(digit) / f"{row:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray((found.images[row] * (255 / 16)).astype("uint8"))  # 8x8 px of 17 greys
                image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


def drawn(image: Image.Image, encoding: str) -> list[str]:
    """Draw an image with block characters, two points above each other in one; plain ones if the encoding lacks them.

    >>> drawn(Image.new("L", (8, 8), 255), "ascii")[0], len(drawn(Image.new("L", (8, 8)), "utf-8"))
    ('############', 6)
    """
    marks = BLOCKS if printable(BLOCKS, encoding) == BLOCKS else PLAIN
    points = np.asarray(image.convert("L").resize((WIDE, 2 * HIGH), Image.Resampling.BICUBIC)) > INK
    return [
        "".join(marks[int(up) + 2 * int(down)] for up, down in zip(*points[row : row + 2], strict=True))
        for row in range(0, 2 * HIGH, 2)
    ]


def verdict(evaluation: Evaluation) -> str:
    """Say how many test images are right."""
    (low, high), images = evaluation.bootstrap(metrics=["accuracy"])["accuracy"] or (0, 1), len(evaluation.labels)
    return (
        f"{100 * (evaluation['accuracy'] or 0):.1f} % of {images} test images are right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %); guessing would give 10 %."
    )


def compared(first: Evaluation, second: Evaluation) -> str:
    """Say whether the search beat the fine-tuning, by how many images, and whether that may be chance."""
    more = int((second.predictions == second.labels).sum() - (first.predictions == first.labels).sum())
    if more <= 0:
        worse = f": {-more} more {'is' if more == -1 else 'are'} wrong" if more else ""
        return f"The search did not beat the fine-tuning this time{worse}."
    interval, value = first.bootstrap(metrics=["accuracy"])["accuracy"], second["accuracy"]
    chance = interval is not None and value is not None and value <= interval[1]
    told = f"The search beat the fine-tuning by {more} of {len(first.labels)} test images"
    return f"{told}, few enough to be chance." if chance else f"{told}."


def judged(classifier: Classifier) -> Evaluation:
    """Return the evaluation of a classifier that has one."""
    assert classifier.evaluation is not None
    return classifier.evaluation


def worth_showing(evaluation: Evaluation) -> list[int]:
    """Choose three images that are right, and up to two that are wrong."""
    right = evaluation.predictions == evaluation.labels
    rows = [np.flatnonzero(right & (evaluation.labels == digit))[:1] for digit in (2, 4, 7)]
    return [int(row) for row in np.concatenate([*rows, np.flatnonzero(~right)[:2]])]
