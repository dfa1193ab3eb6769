"""One fine-tuning from arguments to a classifier, for `vggft.finetune` and for `Classifier.update`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import keras

from .artifact.artifact import Artifact
from .config import named
from .costs import estimate_run
from .errors import ConfigError
from .heads.probe import is_exact
from .heads.resampling import Fold
from .network.blocks import BLOCKS
from .network.start import Start
from .pipeline import open_run
from .run import RunDirectory
from .training.experiment import Experiment, Request
from .training.fit import train
from .training.phases import Setting

A = TypeVar("A", bound=Artifact)


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
    elif isinstance(start, (str, os.PathLike)):
        name, artifact = os.fspath(start), Artifact.from_file(start)
    else:
        raise ConfigError(f"start must be a Classifier, its file or its run directory; got {start!r}.")
    return Start.of(name, artifact.network, artifact.description, artifact.seen)


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
    metrics = check_keras(callbacks, metrics)
    directory, setting = RunDirectory.open(request.run_dir, request.resume), request.setting()
    if tensorboard and directory.path is None:
        raise ConfigError("tensorboard=True writes into the run directory: pass one as run_dir.")
    run = open_run(request, [setting], directory)
    setting, experiment = run.resolve(setting), run.experiment
    planned = run.passes([setting])
    config = {"frozen": list(setting.frozen), "head": setting.head.to_dict(), "training": setting.training.to_dict()}
    config |= {"callbacks": [named(each) for each in callbacks]} if callbacks else {}
    config |= {"metrics": [each.name for each in metrics]} if metrics else {}
    run.start(config)
    if directory.finished and directory.classifier_path is not None:
        run.narrator.say(f"The run in {directory.path} is finished; its classifier is {directory.classifier_path}.")
        directory.drop_points()
        return kind.from_file(directory.classifier_path)
    told, notes = about(experiment, setting, by_fit=bool(callbacks or metrics))
    run.introduce(told, notes, estimate_run(experiment, setting, planned))
    bank = experiment.bank(planned, run.narrator)
    fold = Fold(experiment.pool.rows["train"], experiment.pool.rows["validation"], experiment.seed)
    more: dict[str, Any] = {"tensorboard": tensorboard, "callbacks": callbacks, "metrics": metrics}
    fitted = train(experiment, bank, setting, fold, run=directory, narrator=run.narrator, **more)
    classifier = run.finish(bank, setting, fitted, kind)
    run.save(classifier)
    return classifier


def check_keras(callbacks: Any, metrics: Any) -> list[keras.metrics.Metric]:
    """Return the metrics, those that are given by name as objects.

    Raises:
        ConfigError: something is no callback or no metric of Keras.
    """
    if not isinstance(callbacks, (list, tuple)) or not all(isinstance(c, keras.callbacks.Callback) for c in callbacks):
        raise ConfigError(f"callbacks must be a list of keras.callbacks.Callback; got {callbacks!r}.")
    found = []
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        try:
            made = keras.metrics.get(metric)
        except (TypeError, ValueError):
            made = None
        if callable(made) and not isinstance(made, keras.metrics.Metric):  # of Keras's functions by name
            made = keras.metrics.MeanMetricWrapper(made, name=str(metric))
        if not isinstance(made, keras.metrics.Metric) or not isinstance(metric, (str, keras.metrics.Metric)):
            raise ConfigError(f"metrics must be a list of keras.metrics.Metric or their names; got {metric!r}.")
        found.append(made)
    names = [metric.name for metric in found]
    if len({"accuracy", "loss", "learning_rate", *names}) < 3 + len(names):
        raise ConfigError(f"metrics need different names, and other ones than accuracy and loss; got {names!r}.")
    return found


def about(experiment: Experiment, setting: Setting, by_fit: bool = False) -> tuple[str, list[str]]:
    """Describe what will be trained; also return notes for the user.

    Args:
        by_fit: whether even a head that could be solved exactly is trained by Keras's `fit`.
    """
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
    unchanged = [phase.name for phase in phases if experiment.transform and phase.cut(setting.head.pooling)]
    if unchanged == ["head"]:
        notes.append("the first phase, which trains only the head, does not augment the images")
    elif unchanged:
        notes.append(f"the phases {'; '.join(unchanged)} do not augment the images")
    if len(phases) == 1 and experiment.transform is None and is_exact(setting.head, training) and not by_fit:
        return "the head is a linear probe, which is solved exactly", notes
    return f"{told}, batches of {training.batch_size}", notes
