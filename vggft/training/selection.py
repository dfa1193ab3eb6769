"""Train what validation images choose, and once more from all images, with what they have chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import Head
from ..heads.batches import FeatureBank
from ..heads.choice import CANDIDATES, Choice, choose
from ..heads.probe import is_exact
from ..heads.resampling import Fitted, Fold, Held
from ..network.blocks import BLOCKS
from ..run import RunDirectory
from ..telling.progress import Narrator
from .experiment import Experiment
from .phases import Setting, refitted
from .train import train


@dataclass(frozen=True)
class Outcome:
    """What was trained.

    Args:
        setting: with the head that was chosen.
        fitted: what it learned; its history is of the training that validation images judged.
        choice: the probes that were compared; None for a head that is trained by epochs.
        held: what the images that chose were told before the final classifier learned from them; None if it did not.
    """

    setting: Setting
    fitted: Fitted
    choice: Choice | None
    held: Held | None


def probes_of(experiment: Experiment, setting: Setting, *, free: bool) -> tuple[Head, ...]:
    """Return the linear probes to compare; none for a head that is trained by epochs.

    Args:
        setting: a setting with a resolved `training`.
        free: whether no head was asked for.
    """
    if not is_exact(setting.head, setting.training) or experiment.phases(setting)[0].cut(setting.head) is None:
        return ()
    alone = setting.frozen == BLOCKS  # other blocks would move the cut from which blocks learn
    seen = [replace(setting, head=head).with_blocks().head for head in CANDIDATES if alone or head.blocks is None]
    return tuple(dict.fromkeys(seen)) if free else (setting.head,)


def train_chosen(
    experiment: Experiment,
    bank: FeatureBank,
    setting: Setting,
    probes: Sequence[Head],
    fold: Fold,
    folds: Sequence[Fold] = (),
    *,
    refits: bool,
    run: RunDirectory,
    narrator: Narrator,
    tensorboard: bool = False,
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    predicts: bool = False,
    deadline: float | None = None,
) -> Outcome:
    """Choose a probe if there is a choice, train the setting on a fold, and then on all its images if it refits.

    Args:
        setting: a setting with a resolved `training`.
        probes: as `probes_of` returns them; without validation images there is no choice, and the setting's is taken.
        fold: with validation images.
        folds: of all images, on which the probe is chosen instead of by the validation images; empty for these.
        callbacks, metrics: of Keras, as in `train.train`; the refit has none.
        predicts: whether the validation images are predicted by the network that would be saved, also without a refit.
        deadline: by `time.monotonic()`, at which training of blocks, a refit included, ends with what is best by then.
    """
    choice, begun = None, None
    if probes and fold.validation is not None:
        choice = choose(probes, setting.training, bank, folds or [fold], pool=experiment.pool, narrator=narrator)
        narrator.say(str(choice))
        run.write_json("choice.json", list(choice.told))
        setting, begun = replace(setting, head=choice.head), None if folds else choice.fitted
        fold = replace(fold, settings=choice.settings)
    how: dict[str, Any] = {"tensorboard": tensorboard, "predict": refits or predicts, "head": begun}
    until = deadline
    if deadline is not None and refits:  # which takes as many epochs, with the validation images besides
        now = time.monotonic()
        until = now + (deadline - now) / (2 + len(np.asarray(fold.validation)) / len(fold.train))
    how |= {"callbacks": callbacks, "metrics": metrics, "deadline": until}
    fitted = train(experiment, bank, setting, fold, run=run, narrator=narrator, **how)
    outcome = Outcome(setting, fitted, choice, None)
    if not refits:
        return outcome
    return with_refit(experiment, bank, outcome, fold, run=run, narrator=narrator, deadline=deadline)


def with_refit(
    experiment: Experiment,
    bank: FeatureBank,
    outcome: Outcome,
    fold: Fold,
    *,
    run: RunDirectory,
    narrator: Narrator,
    deadline: float | None = None,
) -> Outcome:
    """Train once more, from all images of a fold, with what was chosen; keep what the held images were told."""
    choice, fitted = outcome.choice, outcome.fitted
    if choice is not None and len(choice.rows) > len(np.asarray(fold.validation)) and outcome.setting.frozen == BLOCKS:
        held = Held("cross-validation", choice.rows, choice.probabilities)
    else:
        held = Held("validation", np.asarray(fold.validation), np.asarray(fitted.probabilities))
    settings, inside = choice.settings if choice else fold.settings, run.inside("resume/refit")
    whole = Fold(np.concatenate([fold.train, np.asarray(fold.validation)]), None, fold.seed, settings=settings)
    how: dict[str, Any] = {"run": inside, "narrator": narrator, "deadline": deadline}
    setting, again = refit(experiment, bank, outcome.setting, fitted.epochs, whole, **how)
    return Outcome(setting, replace(again, history=fitted.history), choice, held)


def refit(
    experiment: Experiment,
    bank: FeatureBank,
    setting: Setting,
    epochs: Mapping[str, int],
    whole: Fold,
    *,
    run: RunDirectory,
    narrator: Narrator,
    deadline: float | None = None,
) -> tuple[Setting, Fitted]:
    """Train a setting on all images, for the best numbers of epochs.

    Args:
        setting: a setting with a resolved `training`.
        epochs: the best epoch of each phase, when validation images judged; a phase is left out if it is 0.
        whole: all images, with the settings of an exact probe.

    Returns:
        What was trained, and what it learned.
    """
    setting = refitted(setting, epochs, exact=bool(whole.settings))
    return setting, train(experiment, bank, setting, whole, run=run, narrator=narrator, deadline=deadline)
