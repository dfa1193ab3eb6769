"""`Places`: what a map of the images of a run is drawn from, small enough to be kept; `places.npz` of its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from ..errors import RunError
from ..features.cuts import POOLED
from ..features.vectors import embeddings
from ..files.archives import read_arrays
from ..heads.batches import FeatureBank
from ..splits.pool import Pool
from .doubts import CUT, words
from .layout import FEWEST, FIRST

MOST, PICTURED, SIDE = 1000, 300, 56  # images on a map, those with a picture, and its side in px


@dataclass(frozen=True, eq=False)
class Places:
    """Images of a run, with what tells which are alike.

    Args:
        names: (n,) of the images.
        labels, predicted: (n,) classes in words; the latter "" for images that the classifier learned from.
        vectors: (n, 32) float32, the first principal components of their embeddings.
        pictures: number of an image among them -> (56, 56, 3) uint8.
    """

    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), "float32"))
    pictures: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, pool: Pool, bank: FeatureBank, predicted: Mapping[int, str], first: Sequence[int], seed: int) -> Self:
        """Take the images of a run, or lots of them, if the cache has the pooled outputs of its blocks.

        Args:
            predicted: row -> the class that was predicted for it, in words.
            first: rows that are on the map in any case, as far as there is room.
            seed: of the lots.
        """
        rows = np.sort(np.concatenate(list(pool.rows.values())))
        if POOLED not in bank.features or len(rows) < FEWEST:
            return cls()
        chosen = np.array(list(dict.fromkeys(first))[:MOST], np.int64)
        others = np.random.default_rng(seed).permutation(np.setdiff1d(rows, chosen))[: MOST - len(chosen)]
        chosen = np.concatenate([chosen, others])
        with threadpool_limits(1):
            x = embeddings(np.asarray(bank.inputs(CUT)[chosen]), CUT, bank.width)
            vectors = PCA(min(FIRST, *x.shape), random_state=seed).fit_transform(x).astype("float32")
        pictures = {n: _small(np.asarray(pool.pixels[row])) for n, row in enumerate(chosen[:PICTURED].tolist())}
        labels, told = (
            tuple(words(pool, row) for row in chosen),
            tuple(predicted.get(row, "") for row in chosen.tolist()),
        )
        return cls(tuple(pool.names[row] for row in chosen), labels, told, vectors, pictures)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as the arrays of a file."""
        told = {name: np.array(getattr(self, name), dtype=str) for name in ("names", "labels", "predicted")}
        pictures = np.array(list(self.pictures.values()), "uint8").reshape(-1, SIDE, SIDE, 3)
        return {
            **told,
            "vectors": self.vectors,
            "pictured": np.array(list(self.pictures), np.int64),
            "pictures": pictures,
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; without one there are no places.

        Raises:
            RunError: it is damaged.
        """
        if not path.exists():
            return cls()
        text: tuple[str, tuple[int | None, ...]] = ("U", (None,))
        expected = {"names": text, "labels": text, "predicted": text, "vectors": ("f", (None, None))}
        expected |= {"pictured": ("i", (None,)), "pictures": ("u", (None, SIDE, SIDE, 3))}
        found = read_arrays(path, RunError, expected)
        names, labels, predicted = (tuple(found[name].tolist()) for name in ("names", "labels", "predicted"))
        pictured, inside = found["pictured"], range(len(names))
        fits = len(labels) == len(predicted) == len(found["vectors"]) == len(names)
        if not fits or len(pictured) != len(found["pictures"]) or not all(n in inside for n in pictured.tolist()):
            raise RunError(f"{path} has arrays that do not fit together, of {len(names)} images.")
        pictures = dict(zip(pictured.tolist(), found["pictures"], strict=True))
        return cls(names, labels, predicted, found["vectors"], pictures)


def _small(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.rint(pixels).clip(0, 255).astype("uint8"))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
