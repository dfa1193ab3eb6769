"""One fine-tuning from arguments to a classifier, for `vggft.finetune` and for `Classifier.update`."""

from __future__ import annotations

import os
from typing import TypeVar

from .artifact.artifact import Artifact
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


def fine_tune(request: Request, kind: type[A], *, tensorboard: bool = False) -> A:
    """Train, evaluate and save one classifier; see `vggft.finetune`.

    Args:
        kind: the class of the result.
        tensorboard: write curves for TensorBoard into the run directory.
    """
    directory, setting = RunDirectory.open(request.run_dir, request.resume), request.setting()
    if tensorboard and directory.path is None:
        raise ConfigError("tensorboard=True writes into the run directory: pass one as run_dir.")
    run = open_run(request, [setting], directory)
    setting, experiment = run.resolve(setting), run.experiment
    planned = run.passes([setting])
    run.start({"frozen": list(setting.frozen), "head": setting.head.to_dict(), "training": setting.training.to_dict()})
    if directory.finished and directory.classifier_path is not None:
        run.narrator.say(f"The run in {directory.path} is finished; its classifier is {directory.classifier_path}.")
        directory.drop_points()
        return kind.from_file(directory.classifier_path)
    run.introduce(*about(experiment, setting), estimate_run(experiment, setting, planned))
    bank = experiment.bank(planned, run.narrator)
    fold = Fold(experiment.pool.rows["train"], experiment.pool.rows["validation"], experiment.seed)
    fitted = train(experiment, bank, setting, fold, run=directory, narrator=run.narrator, tensorboard=tensorboard)
    classifier = run.finish(bank, setting, fitted, kind)
    run.save(classifier)
    return classifier


def about(experiment: Experiment, setting: Setting) -> tuple[str, list[str]]:
    """Describe what will be trained; also return notes for the user."""
    learning = [block for block in BLOCKS if block not in setting.frozen]
    training, notes, start = setting.training, [], experiment.start
    told = f"{', '.join([*learning, 'the head'])} will be trained for at most {training.epochs} epochs"
    if learning:
        told += f" of the head and {training.fine_tune_epochs} with blocks"
    if start is not None and not start.fits(setting.head):
        notes.append(f"the head starts afresh, as it has other layers than that of {start.name}")
    if experiment.transform is not None and setting.frozen:
        notes.append("every epoch has new views, so the frozen blocks are computed again in each of them")
    if experiment.transform is not None and learning:
        notes.append("the first phase, which trains only the head, does not augment the images")
    if not learning and experiment.transform is None and is_exact(setting.head, training):
        return "the head is a linear probe, which is solved exactly", notes
    return f"{told}, batches of {training.batch_size}", notes
