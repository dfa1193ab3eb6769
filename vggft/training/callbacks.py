"""Keras callbacks: early stopping with history and resume points, and a progress bar; curves for TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..errors import RunError
from ..files.schemas import Note, Plateau
from ..files.writing import explained
from ..heads.batches import Batches
from ..heads.objective import Objective
from ..machines.strategies import ONE, Devices
from ..run import REMEDY, RunDirectory

SECONDS_BETWEEN_POINTS = 10.0


class BestEpoch(keras.callbacks.EarlyStopping):
    """Early stopping that keeps the history, can be resumed, and may prefer the weights at the start.

    Args:
        phase: name in the history and of the resume point.
        patience: number of epochs without improvement after which training stops.
        run: where resume points are kept.
        variables: variables of model and optimizer, in the order of the resume point.
        start_score: score of the weights at the start if these compete for the best epoch, else None.
        at_end: called with the history after the last epoch, before the best weights are restored.
        averaged: whether the optimizer's moving average of the weights is judged and kept instead of the weights.
        plateau: the number of epochs without improvement after which the learning rate is reduced; None for never.
        learns_blocks: whether blocks are trained; see `Objective.score`.
        writes: whether this process keeps the resume points; others only read them.

    Attributes:
        rows: the history, one row per epoch; when training has ended, `kept` marks the best one.
        first_epoch: the epoch to begin with, counted from 0.
        done: whether the phase had ended already when it was resumed; the best weights are then in place.
    """

    def __init__(
        self,
        phase: str,
        patience: int,
        run: RunDirectory,
        variables: Sequence[Any],
        start_score: float | None = None,
        at_end: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
        averaged: bool = False,
        plateau: int | None = None,
        learns_blocks: bool = False,
        writes: bool = True,
    ):
        super().__init__(monitor="score", mode="max", patience=patience, restore_best_weights=True)
        self.phase, self.run, self.variables, self.start_score, self.at_end = phase, run, variables, start_score, at_end
        self.averaged, self.held, self.learns_blocks = averaged, list[np.ndarray](), learns_blocks
        self.writes = writes
        self.plateau = None
        if plateau is not None:
            self.plateau = keras.callbacks.ReduceLROnPlateau("score", patience=plateau, mode="max", min_delta=0.0)
        self.rows: list[dict[str, Any]] = []
        self.first_epoch, self.done = 0, False
        self.started = self.saved = time.monotonic()
        self.resumed: tuple[list[np.ndarray], dict[str, Any]] | None = None
        if (point := run.load_point(phase, Note)) is not None:
            arrays, note = point
            diverged = any(not math.isfinite(row.get("loss", 0.0)) for row in note["history"])
            self._check([variable.path for variable in variables], variables, arrays, diverged)
            for variable, array in zip(variables, arrays, strict=False):
                variable.assign(array)
            self.resumed = arrays[len(variables) :], note
            self.rows, self.first_epoch, self.done = note["history"], note["epoch"] + 1, note["done"]

    def best_of(self, model: keras.Model) -> list[np.ndarray]:
        """Return the best weights of the resume point."""
        assert self.resumed is not None
        self._check([weight.path for weight in model.weights], model.weights, arrays := self.resumed[0])
        return arrays

    def _check(
        self, names: Sequence[str], expected: Sequence[Any], arrays: Sequence[np.ndarray], diverged: bool = False
    ) -> None:
        """Raise `RunError` unless arrays of a resume point have the shapes of some variables, and are finite."""
        told = None
        if len(arrays) < len(expected):
            told = f"has {len(arrays)} arrays where {len(expected)} were expected"
        for name, variable, array in zip(names, expected, arrays, strict=False):
            if tuple(variable.shape) != array.shape:
                told = told or f"has shape {array.shape} for {name}, where {tuple(variable.shape)} was expected"
            elif array.dtype.kind not in "biuf" and array.dtype.itemsize != 2:
                told = told or f"has {array.dtype} for {name}"
            elif array.dtype.kind == "f" and not diverged and not np.isfinite(array).all():
                told = told or f"has NaN or infinity in {name}, though the losses were finite"
        if told is not None:
            raise RunError(f"{self.run.point(self.phase)} {told}. {REMEDY}")

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self.plateau is not None:
            self.plateau.set_model(self.model)
            self.plateau.on_train_begin()
        if self.start_score is not None:
            self.best, self.best_epoch, self.best_weights = self.start_score, -1, self.model.get_weights()
        if self.resumed is not None:
            self.best_weights, note = self.best_of(self.model), self.resumed[1]
            self.wait, self.best, self.best_epoch = note["wait"], note["best"], note["best_epoch"]
            if self.plateau is not None:
                vars(self.plateau).update({name: note["plateau"][name] for name in Plateau.__annotations__})

    def on_test_begin(self, logs: Any = None) -> None:
        self._average()

    def on_test_end(self, logs: Any = None) -> None:
        self._go_on()

    def _average(self) -> None:
        """Put the average into the model; Keras's `SwapEMAWeights` swaps by sums, which loses the last bits."""
        if self.averaged:
            self.held = [np.array(variable) for variable in self.model.trainable_variables]
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def _go_on(self) -> None:
        """Put the weights that training goes on from back into the model."""
        for variable, value in zip(self.model.trainable_variables, self.held, strict=False):
            variable.assign(value)
        self.held = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = {key: float(value) for key, value in (logs or {}).items()}
        # Without validation images nothing can select an epoch, so the last one is kept.
        score = Objective.score(values, self.learns_blocks) if "val_loss" in values else float(epoch)
        self._average()
        super().on_epoch_end(epoch, {"score": score})
        self._go_on()
        if self.plateau is not None:
            told = {"score": score if "val_loss" in values else -values["loss"]}
            self.plateau.on_epoch_end(epoch, told)  # which adds the learning rate that the epoch had
            values["learning_rate"] = told["learning_rate"]
        seconds = time.monotonic() - self.started
        self.rows.append({"phase": self.phase, "epoch": epoch + 1, **values, "seconds": seconds})
        if not math.isfinite(values["loss"]):
            self.model.stop_training = True  # no later epoch can mend the weights
        if time.monotonic() - self.saved >= SECONDS_BETWEEN_POINTS and not self.model.stop_training:
            self._save(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        self.at_end(self.rows)
        super().on_train_end(logs)
        for row in self.rows:
            row["kept"] = row["epoch"] - 1 == self.best_epoch
        self._save(self.rows[-1]["epoch"] - 1, done=True)

    def _save(self, epoch: int, done: bool = False) -> None:
        if self.run.path is None or not self.writes:
            return
        note = {"epoch": epoch, "wait": self.wait, "best": float(self.best), "best_epoch": self.best_epoch}
        if self.plateau is not None:
            note["plateau"] = {name: getattr(self.plateau, name) for name in ("best", "wait", "cooldown_counter")}
        arrays = [np.asarray(variable) for variable in self.variables]
        self.run.save_point(self.phase, [*arrays, *self.best_weights], note | {"history": self.rows, "done": done})
        self.saved = time.monotonic()


def write_curves(path: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Write the curves of a phase for TensorBoard, as Keras's callback does during `fit`."""
    with explained(path):
        for folder, prefix in (("train", ""), ("validation", "val_")):
            with tf.summary.create_file_writer(str(path / folder)).as_default():
                for row in history:
                    for name in ("loss", "accuracy", "label_accuracy"):
                        if prefix + name in row:
                            tf.summary.scalar(f"epoch_{name}", row[prefix + name], step=row["epoch"] - 1)


class Deadline(keras.callbacks.Callback):
    """End training at the first step after a moment by `time.monotonic()`; the epoch until then counts."""

    def __init__(self, at: float, devices: Devices = ONE):
        super().__init__()
        self.at, self.devices = at, devices

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.devices.agree(time.monotonic() >= self.at):
            self.model.stop_training = True


class Bar(keras.callbacks.Callback):
    """Advance a progress bar batch by batch, and show the validation accuracy of each epoch."""

    def __init__(
        self,
        advance: Callable[..., None],
        batches: Batches,
        phase: str,
        on_epoch: Callable[[str], object] = lambda told: None,
    ):
        super().__init__()
        self.on_epoch = on_epoch
        self.advance, self.batches, self.phase, self.seen = advance, batches, phase, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        seen = min((batch + 1) * self.batches.batch_size, self.batches.num_images)
        self.advance(seen - self.seen)
        self.seen = seen

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        told = ""
        for name in ("accuracy", "label_accuracy"):
            if (value := (logs or {}).get(f"val_{name}")) is not None:
                told = f": validation {name.replace('_', ' ')} {value:.3f}"
        self.advance(0, f"{self.phase}, epoch {epoch + 1}{told}")
        self.on_epoch(f"{self.phase}, epoch {epoch + 1}{told}")
