"""The history in the shapes that people know."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest

from vggft.artifact.predictions import Predictions
from vggft.errors import ConfigError
from vggft.heads.history import History
from vggft.trust.conformal import PredictionSets

ROWS = [
    {"phase": "head", "epoch": 1, "loss": 0.9, "val_loss": 0.8, "kept": False},
    {"phase": "head", "epoch": 2, "loss": 0.7, "val_loss": 0.6, "kept": True, "learning_rate": 0.1},
    {"phase": "blocks and head", "epoch": 1, "loss": 0.5, "val_loss": 0.7, "kept": False},
]


def test_rows_columns_and_a_frame() -> None:
    history = History(ROWS)
    assert history.history["val_loss"] == history["val_loss"] == [0.8, 0.6, 0.7] and history.epoch == [0, 1, 2]
    assert [math.isnan(rate) for rate in history["learning_rate"]] == [True, False, True]
    assert list(history) == ROWS and history[-1] == ROWS[-1] and history[:2] == ROWS[:2] and len(history) == 3
    assert history == ROWS == json.loads(json.dumps(list(history)))
    frame = history.to_frame()
    assert isinstance(frame, pd.DataFrame) and frame["val_loss"].idxmin() == 1 and len(frame) == 3
    with pytest.raises(KeyError, match="'accuracy' is not in the history; it has phase, epoch, loss"):
        history["accuracy"]
    assert not History() and History().history == {}


def test_a_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    none = np.zeros((0, 2), "float32")
    sets = PredictionSets(none.astype(bool), none, ("cat", "dog"), (), 0.9, "lac")
    for each in (History(ROWS), sets, Predictions((), none, (), ("cat", "dog"))):
        with pytest.raises(ConfigError, match=r"(to_frame|as_frame=True) needs pandas(.|\n)*needs nothing"):
            each.to_frame()
