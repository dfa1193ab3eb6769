"""The winner of a search as a classifier: the very weights that were scored, or learned anew; judged once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..artifact.judge import judge
from ..artifact.record import Record, write_pictures
from ..classifier import Classifier
from ..errors import SearchError
from ..features.cuts import cut_layer
from ..network.blocks import BLOCKS
from ..network.description import build
from ..network.freezing import assign_weights
from ..network.head import POOLING_LAYERS
from ..progress import Narrator
from ..run import RunDirectory
from ..training.resampling import Fit
from .rounds import Job, Trainer
from .space import Setting
from .trial import Trial, read_weights


def classifier_of(
    trainer: Trainer,
    best: Trial,
    folder: Path,
    winner: str,
    run: RunDirectory,
    narrator: Narrator,
    *,
    calibrate: bool = False,
    tune_thresholds: bool = False,
) -> Classifier:
    """Build the winner, put its weights in, and judge it on validation and test images.

    Args:
        folder: where the trial's weights are.
        calibrate, tune_thresholds: as for `finetune`.
        winner: `"scored"` or `"refit"`, as for `search`.

    Raises:
        SearchError: the weights that were scored are not there.
    """
    base = trainer.base
    description = base.describe(best.head, best.frozen)
    weights, history = read_weights(folder), list(best.history)
    if winner == "refit":
        epochs = best.epochs or {}
        both = np.concatenate([base.pool.rows["train"], base.pool.rows["validation"]])
        learned = replace(
            best.training,
            epochs=epochs.get("head", best.training.epochs),
            fine_tune_epochs=epochs.get("blocks and head") or best.training.fine_tune_epochs,
        )
        narrator.say("The winner learns anew from train and validation images.")
        # Where fine-tuning made nothing better there is none.
        frozen = BLOCKS if epochs.get("blocks and head") == 0 else best.frozen
        refit = Job("refit", best.hyperparameters, Setting(frozen, best.head, learned))
        fitted = trainer.alone(refit, Fit(both, both[:1], base.seed), keep_last=True)
        weights, history = fitted.weights, fitted.history
    elif weights is None:
        raise SearchError(f"The weights of trial {best.trial_id} are not in {folder}; winner='refit' does without.")
    model = build(description)
    base.pretrained.assign(model)
    assign_weights(model, weights)
    cut = POOLING_LAYERS[best.head.pooling] if best.frozen == BLOCKS else cut_layer(model, best.frozen)
    if base.change is not None:
        cut = None
    judged = judge(
        model,
        description,
        cut,
        base.pool.pixels if cut is None else trainer.features[cut][0],
        base.pool,
        calibrate=calibrate,
        tune_thresholds=tune_thresholds,
        learned=("train", "validation") if winner == "refit" else ("train",),
    )
    if judged.calibration:
        narrator.say(str(judged.calibration))
    summary = judged.to_dict()
    run.write_json("evaluation.json", summary)
    run.write_table("history.csv", history)
    write_pictures(run, judged.pictures)
    seen, record = base.pool.digests_of("train", "validation"), Record(summary=summary, pictures=judged.pictures)
    return Classifier(model, judged.description, judged.final, history, seen, record)
