"""One fine-tuning from arguments to a classifier, for `vggft.finetune` and for `Classifier.update`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from .artifact.artifact import Artifact
from .augment import named
from .config import Head, Training
from .costs import Estimate, estimate_run
from .depth import FEWEST, USUAL_LIMIT, deepen
from .engine import own_settings
from .errors import ConfigError
from .features.extract import Pass
from .fields import is_word, shown
from .heads.resampling import Fold, resample
from .machines.cluster import await_run
from .machines.strategies import devices_of
from .network.blocks import BLOCKS
from .network.start import Start
from .pipeline import Run, open_run
from .run import RunDirectory
from .splits.pool import Pool
from .splits.splitting import owners_of
from .training.experiment import Experiment, begins_anew
from .training.phases import Setting
from .training.request import AUTO, Request, is_path, seconds_of
from .training.selection import probes_of, train_chosen, with_refit
from .training.worker import crew_of, follow_chief

A = TypeVar("A", bound=Artifact)

FEW = 10  # images of a class, with fewer of which folds choose and judge instead of a fraction for validation
MOST_FOR_FOLDS = 2000  # images, whose folds take half a minute
MOST_FOLDS = 5


def open_start(start: Artifact | str | os.PathLike[str] | None) -> Start | None:
    """Read what a run takes from the classifier that it starts from.

    Args:
        start: the classifier, its file, or its run directory; None if there is none.

    Raises:
        ConfigError: `start` is something else.
        ClassifierFileError: the file does not exist or is damaged.
    """
    if start is None:
        return None
    if isinstance(start, Artifact):
        name, artifact = type(start).__name__, start
    elif is_path(start):
        name, artifact = os.fspath(start), Artifact.from_file(start)
    else:
        raise ConfigError(f"start must be a Classifier, its file or its run directory; got {shown(start)}.")
    return Start.of(name, artifact.network, artifact.description, artifact.seen)


@dataclass(frozen=True)
class Plan:
    """How a fine-tuning chooses, and what it learns from.

    Args:
        setting: what is trained, resolved; its head is the first of the candidates.
        probes: the linear probes that are compared; empty for a head that is trained by epochs.
        fold: the images to learn from and those for validation.
        folds: on which the probes are compared, of all images; empty for the validation images.
        refits: whether the final classifier also learns from the validation images.
    """

    setting: Setting
    probes: tuple[Head, ...]
    fold: Fold
    folds: tuple[Fold, ...]
    refits: bool


def plan_of(request: Request, run: Run) -> Plan:
    """Decide what is compared on which images, and whether the final classifier learns from all of them.

    Folds are a surer choice than a fraction of few images for validation, and nobody else has to be judged by these if
    the final classifier learns from all of them: there are test images, or so few (`FEW` of a class) that the folds
    have to judge too.

    Raises:
        ConfigError: a refit is asked for that would leave no images to evaluate on, or to adjust on.
    """
    setting, experiment, pool = run.resolve(request.setting()), run.experiment, run.experiment.pool
    adjusts, has_test = request.calibrate or request.tune_thresholds, "test" in pool.rows
    probes = probes_of(experiment, setting, free=request.head is None and experiment.start is None)
    afresh = experiment.start is None or begins_anew(experiment.start, [setting], request.augment)
    folds, refits = list[Fold](), request.refit
    if probes and afresh and not adjusts and refits is not False:
        smallest, images = smallest_class(pool), len(pool.rows["train"]) + len(pool.rows["validation"])
        few, most, frozen = smallest < FEW, min(MOST_FOLDS, smallest, fewest_groups(pool)), setting.frozen == BLOCKS
        shared = "validation" in pool.drawn and most >= 2 and images <= MOST_FOR_FOLDS
        if shared and (has_test or (few and frozen)):
            folds = resample(pool, int(most), 1, experiment.seed)
        refits = bool(folds) or has_test if refits is None else refits
    (fold,) = resample(pool, None, 1, experiment.seed)
    return Plan(setting, probes, fold, tuple(folds), bool(refits))


def config_of(setting: Setting, probes: Sequence[Head]) -> dict[str, Any]:
    """Return what determines the result of a setting, ready for JSON; several probes are candidates for its head."""
    told = {"frozen": list(setting.frozen), "head": setting.head.to_dict(), "training": setting.training.to_dict()}
    return told if len(probes) < 2 else told | {"head": None, "candidates": [head.to_dict() for head in probes]}


def smallest_class(pool: Pool) -> int:
    """Return the number of distinct images of the smallest class, test images left out."""
    rows = {pool.digests[row]: row for split in ("train", "validation") for row in pool.rows[split]}
    return int(pool.targets[list(rows.values())].sum(axis=0).min())


def fewest_groups(pool: Pool) -> float:
    """Return the number of groups of the class that is in the fewest, test images left out; no limit without groups."""
    rows = np.concatenate([pool.rows["train"], pool.rows["validation"]])
    units = pool.units_of(rows)
    return math.inf if units is None else int(owners_of(pool.targets[rows] > 0, units).min())


@own_settings()
def fine_tune(
    request: Request,
    kind: type[A],
    *,
    tensorboard: bool = False,
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
) -> A:
    """Train, evaluate and save one classifier; see `vggft.finetune`.

    Args:
        kind: the class of the result.
        tensorboard: write curves for TensorBoard into the run directory.
        callbacks, metrics: of Keras, as in `vggft.finetune`.
    """
    metrics = check_keras(callbacks, metrics, tensorboard)
    request = watched_by(request, callbacks, metrics)
    begun, limit, auto = time.monotonic(), limit_of(request), is_word(request.freeze, (AUTO,))
    deadline, devices = None if limit is None else begun + limit, devices_of(request.strategy)
    helps = not devices.cluster.chief
    if devices.cluster.size > 1:
        check_together(request, callbacks, metrics)
    if helps:
        await_run(Path(request.run_dir or ""))
    with RunDirectory.open(request.run_dir, request.resume or helps, worker=helps) as directory:
        if tensorboard and directory.path is None:
            raise ConfigError("tensorboard=True writes into the run directory: pass one as run_dir.")
        run = open_run(request, [request.setting()], directory, devices)
        plan, experiment = plan_of(request, run), run.experiment
        setting = plan.setting
        if plan.refits:
            run.learn_from(("train", "validation"), judged=bool(plan.folds))
        planned = run.passes([replace(setting, head=head) for head in plan.probes or (setting.head,)])
        told = config_of(setting, plan.probes)
        told |= {} if request.refit is None else {"refit": request.refit}
        told |= {"callbacks": [named(each) for each in callbacks]} if callbacks else {}
        told |= {"metrics": [each.name for each in metrics]} if metrics else {}
        told |= {"time_limit": limit, "deeper": auto} if limit else {}
        run.start(told, worker=helps)
        if directory.finished and directory.classifier_path is not None:
            run.narrator.say(f"The run in {directory.path} is finished; its classifier is {directory.classifier_path}.")
            directory.drop_points()
            return kind.from_file(directory.classifier_path)
        if is_word(request.strategy, ("multiworker",)) and devices.cluster.size == 1:
            run.narrator.say("Note: neither TF_CONFIG nor Slurm tells of other processes, so this one works alone.")
        if not helps:
            run.introduce(*about(experiment, plan), cost_of(request, experiment, plan, planned))
        with crew_of(devices, directory, run.narrator) as crew:
            bank = experiment.bank(planned, run.narrator)
            if helps:
                follow_chief(devices, directory)
                return kind.from_file(directory.path or "")
            run.experiment = experiment = replace(experiment, crew=crew)
            how: dict[str, Any] = {"run": directory, "narrator": run.narrator}
            watched: dict[str, Any] = {"tensorboard": tensorboard, "callbacks": callbacks, "metrics": metrics}
            more = {"refits": plan.refits and not auto, "predicts": auto, "deadline": deadline, **watched}
            outcome = train_chosen(experiment, bank, setting, plan.probes, plan.fold, plan.folds, **how, **more)
            if auto and deadline is not None:
                deep: dict[str, Any] = {"deadline": deadline, "refits": plan.refits, **watched}
                outcome, bank = deepen(run, bank, outcome, plan.fold, **deep)
                if plan.refits:
                    outcome = with_refit(experiment, bank, outcome, plan.fold, **how, deadline=deadline)
            classifier = run.finish(bank, outcome.setting, outcome.fitted, kind, outcome.held)
            run.save(classifier)
        return classifier


def watched_by(request: Request, callbacks: Any, metrics: Any) -> Request:
    """Train a head by epochs if callbacks or metrics of Keras, which see nothing else, are to see it."""
    if not callbacks and not metrics:
        return request
    return replace(request, training=replace(request.training or Training(), probe="epochs"))


def check_together(request: Request, callbacks: Sequence[Any], metrics: Sequence[Any]) -> None:
    """Raise `ConfigError` for what several processes cannot do together."""
    if request.run_dir is None:
        raise ConfigError("The processes of a run share a run_dir, on a disk that all of them see; got run_dir=None.")
    if callbacks or metrics:
        raise ConfigError(
            "callbacks and metrics are objects of this process, and blocks are trained by several: leave them out, or "
            "train with strategy='auto'."
        )


def limit_of(request: Request) -> float | None:
    """Return the time limit of a run in seconds, if it has one."""
    limit = seconds_of(request.time_limit)
    return USUAL_LIMIT if limit is None and is_word(request.freeze, (AUTO,)) else limit


def cost_of(request: Request, experiment: Experiment, plan: Plan, planned: Sequence[Pass]) -> Estimate:
    """Estimate the cost of a fine-tuning; `freeze="auto"` takes its whole time limit, if all goes on learning."""
    how: dict[str, Any] = {"probes": len(plan.probes), "folds": len(plan.folds) or 1, "refits": plan.refits}
    cost, limit = estimate_run(experiment, plan.setting, planned, **how), limit_of(request)
    if limit is None:
        return cost
    auto = is_word(request.freeze, (AUTO,)) and len(plan.fold.train) >= FEWEST
    return replace(cost, training_seconds=limit if auto else min(limit, cost.training_seconds))


def check_keras(callbacks: Any = (), metrics: Any = (), tensorboard: Any = False) -> list[keras.metrics.Metric]:
    """Return the metrics, those that are given by name as objects.

    Raises:
        ConfigError: something is no callback or no metric of Keras, or `tensorboard` is not True or False.
    """
    if not isinstance(tensorboard, bool):
        raise ConfigError(f"tensorboard must be True or False; got {shown(tensorboard)}.")
    if not isinstance(callbacks, (list, tuple)) or not all(isinstance(c, keras.callbacks.Callback) for c in callbacks):
        raise ConfigError(f"callbacks must be a list of keras.callbacks.Callback; got {shown(callbacks)}.")
    found = []
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        try:
            made = keras.metrics.get(metric)
        except Exception:  # Keras raises nearly anything for what is none
            made = None
        if callable(made) and not isinstance(made, keras.metrics.Metric):  # of Keras's functions by name
            made = keras.metrics.MeanMetricWrapper(made, name=str(metric))
        if not isinstance(made, keras.metrics.Metric) or not isinstance(metric, (str, keras.metrics.Metric)):
            raise ConfigError(f"metrics must be a list of keras.metrics.Metric or their names; got {shown(metric)}.")
        found.append(made)
    names = [metric.name for metric in found]
    if len({"accuracy", "label_accuracy", "loss", "learning_rate", *names}) < 4 + len(names):
        raise ConfigError(f"metrics need different names, and other ones than accuracy and loss; got {shown(names)}.")
    return found


def about(experiment: Experiment, plan: Plan) -> tuple[str, list[str]]:
    """Describe what will be trained; also return notes for the user."""
    setting = plan.setting
    learning = [block for block in BLOCKS if block not in setting.frozen]
    training, notes, start = setting.training, list[str](), experiment.start
    phases = experiment.phases(setting)
    told = f"{', '.join([*learning, 'the head'])} will be trained for at most {training.epochs} epochs"
    if training.phases != "standard":
        each = ", ".join(f"{phase.name} ({phase.epochs})" for phase in phases)
        told = f"{', '.join([*learning, 'the head'])} will be trained in phases of at most so many epochs: {each}"
    elif learning:
        told += f" of the head and {training.fine_tune_epochs} with blocks"
    if start is not None and not start.fits(setting.head):
        notes.append(f"the head starts afresh, as it has other layers than that of {start.name}")
    if experiment.transform is not None and setting.frozen:
        notes.append("every epoch has new views, so the frozen blocks are computed again in each of them")
    unchanged = [phase.name for phase in phases if experiment.transform and phase.cut(setting.head)]
    if unchanged == ["head"]:
        notes.append("the first phase, which trains only the head, does not augment the images")
    elif unchanged:
        notes.append(f"the phases {'; '.join(unchanged)} do not augment the images")
    if learning and (together := experiment.devices.told(training.batch_size or 32)):
        notes.append(together)
    if plan.folds:
        judging = "choose" if "test" in experiment.pool.rows else "choose and judge"
        of = "folds of the training and validation images"
        notes.append(f"{len(plan.folds)} {of} {judging} instead of the validation images alone")
    if plan.refits:
        notes.append("the classifier will learn from the validation images too, once they have chosen")
    if len(phases) == 1 and plan.probes:
        kinds = f"the best of {len(plan.probes)} linear probes" if len(plan.probes) > 1 else "a linear probe"
        return f"the head is {kinds}, solved exactly", notes
    return f"{told}, batches of {training.batch_size}", notes
