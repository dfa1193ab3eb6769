"""Keras callbacks: the best epoch with its resume points, and a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..run import RunDirectory
from .batches import Batches
from .objective import score

SECONDS_BETWEEN_POINTS = 10.0


class Keeper(keras.callbacks.EarlyStopping):
    """Early stopping that keeps the history, survives a kill, and can start from weights that are already good."""

    def __init__(self, phase: str, patience: int, run: RunDirectory, at_end: Callable[[], None], best: float | None):
        super().__init__(monitor="score", mode="max", patience=patience, restore_best_weights=True)
        self.phase, self.run, self.at_end, self.start = phase, run, at_end, best
        self.rows: list[dict[str, Any]] = []
        self.first_epoch, self.done = 0, False

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self.start is not None:
            self.best, self.best_epoch, self.best_weights = self.start, -1, self.model.get_weights()
        self.saved = time.monotonic()
        if self._point is not None:
            arrays, note = self._point
            self.wait, self.best, self.best_epoch = note["wait"], note["best"], note["best_epoch"]
            self.best_weights = arrays[self._split :]

    def resume(self, variables: list[Any]) -> None:
        """Take up the resume point of this phase, if there is one; `variables` are of model and optimizer."""
        self._variables, self._split = variables, len(variables)
        self._point = self.run.load_point(self.phase)
        if self._point is not None:
            arrays, note = self._point
            for variable, array in zip(variables, arrays, strict=False):
                variable.assign(array)
            self.rows, self.first_epoch, self.done = note["history"], note["epoch"] + 1, note["done"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = {key: float(value) for key, value in (logs or {}).items()}
        judged = "val_loss" in values  # else there is nothing to choose by, and the last epoch is the best
        super().on_epoch_end(
            epoch, {"score": score(values["val_accuracy"], values["val_loss"]) if judged else float(epoch)}
        )
        self.rows.append(
            {"phase": self.phase, "epoch": epoch + 1, **values, "seconds": time.monotonic() - self.started}
        )
        if time.monotonic() - self.saved >= SECONDS_BETWEEN_POINTS and not self.model.stop_training:
            self._save(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        self.at_end()
        super().on_train_end(logs)
        for row in self.rows:
            row["kept"] = row["epoch"] - 1 == self.best_epoch
        self._save(self.rows[-1]["epoch"] - 1, done=True)

    def _save(self, epoch: int, done: bool = False) -> None:
        if self.run.path is None:
            return
        note = {"epoch": epoch, "wait": self.wait, "best": float(self.best), "best_epoch": self.best_epoch}
        arrays = [np.asarray(variable) for variable in self._variables]
        self.run.save_point(self.phase, [*arrays, *self.best_weights], note | {"history": self.rows, "done": done})
        self.saved = time.monotonic()


class Bar(keras.callbacks.Callback):
    """Moves a progress bar on, batch by batch."""

    def __init__(self, advance: Callable[..., None], batches: Batches, phase: str):
        super().__init__()
        self.advance, self.batches, self.phase, self.seen = advance, batches, phase, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        seen = min((batch + 1) * self.batches.batch_size, self.batches.num_images)
        self.advance(seen - self.seen)
        self.seen = seen

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        accuracy = (logs or {}).get("val_accuracy")
        told = "" if accuracy is None else f": validation accuracy {accuracy:.3f}"
        self.advance(0, f"{self.phase}, epoch {epoch + 1}{told}")
