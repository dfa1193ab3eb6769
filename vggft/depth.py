"""`freeze="auto"`: whether blocks learn too, and from which one on, within a time limit."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import Head
from .costs import epoch_seconds, finish_seconds
from .evaluation.mistakes import losses
from .files.schemas import Plan
from .heads.batches import FeatureBank
from .heads.choice import Choice, choose
from .heads.resampling import Fitted, Fold
from .network.blocks import BLOCKS
from .pipeline import Run
from .training.phases import Setting
from .training.selection import Outcome, train_chosen

FEWEST = 100  # training images from which blocks learn
LEAST_EPOCHS = 2
USUAL_LIMIT = 30 * 60.0  # seconds, of `freeze="auto"`
PART = "resume/deeper"  # of the run directory, with resume points of its own


@dataclass(frozen=True)
class Depth:
    """From which block on fine-tuning learns, and the probes that tell.

    Args:
        setting: what would be trained.
        choice: a probe on each block alone.
    """

    setting: Setting
    choice: Choice

    def __str__(self) -> str:
        told = ", ".join(f"{row['log_loss']:.2f}" for row in self.choice.told)
        first = len(self.setting.frozen)
        learning = f"{BLOCKS[first]} learns" if first == len(BLOCKS) - 1 else f"{BLOCKS[first]} to block5 learn"
        return f"Probes on blocks 1 to 5 alone have log losses {told}: {learning}."


def depth_of(run: Run, setting: Setting, bank: FeatureBank, fold: Fold) -> Depth:
    """Choose the first block to learn: the one after the last block whose own probe is as good as the best.

    Later blocks are made for other pictures: what they throw away is what these need. If the last block itself is as
    good as the best, it alone learns. "As good" allows one standard error of the difference over validation images.
    """
    heads = [Head(blocks=(block,)) for block in reversed(BLOCKS)]
    choice = choose(heads, setting.training, bank, [fold], pool=run.experiment.pool, narrator=run.narrator)
    told = tuple(reversed(choice.told))
    best = min(told, key=lambda row: float(row["log_loss"]))
    good = [n for n, row in enumerate(told) if row["log_loss"] <= best["log_loss"] + max(row["error"], best["error"])]
    frozen = BLOCKS[: min(max(good) + 1, len(BLOCKS) - 1)]
    head = replace(setting.head, blocks=None)
    return Depth(replace(setting, frozen=frozen, head=head).with_blocks(), replace(choice, told=told))


def with_maps(run: Run, setting: Setting, bank: FeatureBank) -> FeatureBank:
    """Add the features that a setting starts from, if they are not among those of the bank."""
    more = run.experiment.bank(run.passes([setting]), run.narrator)
    return replace(more, features={**bank.features, **more.features})


def deepen(
    run: Run, bank: FeatureBank, frozen: Outcome, fold: Fold, *, deadline: float, refits: bool, **watched: Any
) -> tuple[Outcome, FeatureBank]:
    """Let blocks learn from the start of a linear probe, and keep that if the validation images are told better.

    Args:
        frozen: what was trained with all blocks frozen.
        fold: with validation images.
        deadline: by `time.monotonic()`, until which also a refit and the evaluation have to end.
        refits: whether the winner will learn from the validation images too, for which time is left.
        watched: callbacks, metrics and the like, as in `train_chosen`.

    Returns:
        The better one, not refitted, and a bank with its features.
    """
    experiment, say = run.experiment, run.narrator.say
    if len(fold.train) < FEWEST:
        say(f"No block learns: that takes {FEWEST} training images or more.")
        return frozen, bank
    depth = depth_of(run, frozen.setting, bank, fold)
    say(str(depth))
    bank = with_maps(run, depth.setting, bank)
    setting, kept = depth.setting, len(np.asarray(fold.validation)) if refits else 0
    each = epoch_seconds(experiment, setting) * (2 + kept / len(fold.train) if refits else 1)
    room = deadline - time.monotonic() - finish_seconds(experiment, setting)
    epochs, points = min(setting.training.fine_tune_epochs or 1, int(room / each)), run.directory.inside(PART)
    if found := points.load_point("plan", Plan):  # of a run that was killed, which had another time left
        epochs = found[1]["epochs"]
    points.save_point("plan", [], {"epochs": epochs})
    if epochs < LEAST_EPOCHS:
        least = f"{LEAST_EPOCHS} epochs would take about {LEAST_EPOCHS * each:.0f} s"
        say(f"No block learns: {least}, and {max(room, 0):.0f} s are left.")
        return frozen, bank
    setting = replace(setting, training=replace(setting.training, fine_tune_epochs=epochs))
    started = replace(fold, settings=frozen.choice.settings if frozen.choice else {})  # what was chosen for more blocks
    until = deadline - (finish_seconds(experiment, setting) + (room / 2 if refits else 0))
    how: dict[str, Any] = {"refits": False, "predicts": True, "run": points, "deadline": until, **watched}
    deeper = train_chosen(experiment, bank, setting, (), started, narrator=run.narrator, **how)
    before, after = (_losses(run, each.fitted, fold) for each in (frozen, deeper))
    gain = before - after
    error = gain.std() / np.sqrt(len(gain))
    told = f"Log loss of the validation images: {before.mean():.3f} with frozen blocks, {after.mean():.3f} with learned"
    later = [phase.name for phase in experiment.phases(setting) if phase.freeze != BLOCKS]
    better = gain.mean() > 0 and any(deeper.fitted.epochs.get(name, 0) for name in later)
    say(
        f"{told} (difference {gain.mean():+.3f} +- {error:.3f}): the {'learned' if better else 'frozen'} ones are kept."
    )
    return (replace(deeper, choice=frozen.choice) if better else frozen), bank


def _losses(run: Run, fitted: Fitted, fold: Fold) -> np.ndarray:
    return losses(run.experiment.pool.labels(np.asarray(fold.validation)), np.asarray(fitted.probabilities))
