"""Small images, folders and tables for the tests of the data package, and short ways to open them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggft.data.dataset import Dataset, open_dataset
from vggft.errors import DataError


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(1, size, seed)[0]).save(path)
    return path


def pixels(count: int, size: tuple[int, int] = (40, 36), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size[1], size[0], 3), np.uint8)


def folder(root: Path, **counts: int) -> Path:
    for c, (name, count) in enumerate(counts.items()):
        for i in range(count):
            picture(root / name / f"{i}.png", seed=100 * c + i)
    return root


def write_csv(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def whole(data: Any, *args: Any, **kwargs: Any) -> Dataset:
    opened = open_dataset(data, *args, **kwargs)
    assert list(opened) == ["all"]
    return opened["all"]


def arrays(data: Dataset) -> np.ndarray:
    """The images of a dataset, converted: (N, H, W, 3)."""
    return np.stack([np.asarray(image) for image in data.images])


def error(data: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(data, *args, **kwargs)
    return str(caught.value)
