"""Train once more, from train and validation images together, with what validation images have chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..heads.batches import FeatureBank
from ..heads.resampling import Fitted, Fold
from ..network.blocks import BLOCKS
from ..progress import Narrator
from ..run import RunDirectory
from .experiment import Experiment
from .fit import train
from .phases import Setting


def refit(
    experiment: Experiment,
    bank: FeatureBank,
    setting: Setting,
    epochs: Mapping[str, int],
    settings: Mapping[str, float],
    *,
    run: RunDirectory,
    narrator: Narrator,
) -> tuple[Setting, Fitted]:
    """Train a setting on train and validation images, for the best numbers of epochs.

    Args:
        setting: a setting with a resolved `training`.
        epochs: the best epoch of each phase, when validation images judged; blocks do not learn if theirs is 0.
        settings: of an exact probe, as validation images have chosen them.

    Returns:
        What was trained, and what it learned.
    """
    training = replace(
        setting.training,
        epochs=epochs.get("head", setting.training.epochs),
        fine_tune_epochs=epochs.get("blocks and head") or setting.training.fine_tune_epochs,
    )
    frozen = BLOCKS if epochs.get("blocks and head") == 0 else setting.frozen
    setting = replace(setting, frozen=frozen, training=training)
    rows = experiment.pool.rows
    fold = Fold(np.concatenate([rows["train"], rows["validation"]]), None, experiment.seed, settings=settings)
    return setting, train(experiment, bank, setting, fold, run=run, narrator=narrator)
