"""A map: embeddings in two dimensions, so that alike images are near each other."""

from __future__ import annotations

import importlib.metadata
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

FIRST = 32  # directions that t-SNE and UMAP see: the rest is mostly noise, and makes them slow
FEWEST = 10  # images, with fewer of which there is nothing to arrange
PERPLEXITY, ITERATIONS = 30.0, 400  # with more of the latter, neighbours stay as they are


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of images on a map.

    Args:
        rows: (n,) int64, the images that are on it, in their order.
        points: (n, 2) float32, each coordinate in 0..1.
        how: `"UMAP"`, `"t-SNE"` or `"PCA"`.
    """

    rows: np.ndarray
    points: np.ndarray
    how: str


def layout(
    embeddings: np.ndarray, *, most: int = 1000, keep: np.ndarray | None = None, how: str = "auto", seed: int = 0
) -> Layout:
    """Arrange images in two dimensions; the same arguments give the same map.

    Args:
        embeddings: (N, C) float32.
        most: number of images on the map; of more, lots are drawn.
        keep: (k,) rows that are on it in any case, such as mistakes, as far as there is room.
        how: `"UMAP"` (arXiv:1802.03426) needs the extra `vggft[map]`; `"t-SNE"` is scikit-learn's; `"PCA"` takes no
            time; `"auto"` takes UMAP where it is installed, else t-SNE.
        seed: of the lots, and of the arrangement.

    >>> found = layout(np.random.default_rng(0).normal(size=(40, 8)).astype("float32"), how="PCA")
    >>> found.points.shape, float(found.points.min()), found.how
    ((40, 2), 0.0, 'PCA')
    """
    rng, first = np.random.default_rng(seed), np.unique(np.asarray([] if keep is None else keep, np.int64))
    if len(embeddings) > most:
        others = np.setdiff1d(np.arange(len(embeddings)), first)
        first = rng.permutation(first)[:most]
        rows = np.sort(np.concatenate([first, rng.permutation(others)[: most - len(first)]]))
    else:
        rows = np.arange(len(embeddings))
    x = np.asarray(embeddings[rows], "float32")
    if len(x) < FEWEST or not np.ptp(x, axis=0).any():
        how = "PCA"
    elif how == "auto":
        how = "UMAP" if has_umap() else "t-SNE"
    with threadpool_limits(1):
        size = min(2 if how == "PCA" else FIRST, *x.shape)
        points = PCA(size, random_state=seed).fit_transform(x) if size and len(x) > 1 else np.zeros((len(x), 2))
        if how == "UMAP":
            points = _umap(points, seed)
        elif how == "t-SNE":
            perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
            settings = {"init": "pca", "max_iter": ITERATIONS, "random_state": seed, "perplexity": perplexity}
            points = TSNE(**settings).fit_transform(points)
    points = np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1]))))[:, :2]
    low, wide = (points.min(axis=0), np.ptp(points, axis=0)) if len(points) else (np.zeros(2), np.ones(2))
    return Layout(rows, ((points - low) / np.where(wide > 0, wide, 1)).astype("float32"), how)


def has_umap() -> bool:
    """Whether the package umap-learn is installed; it is not imported, which takes seconds."""
    try:
        return bool(importlib.metadata.version("umap-learn"))
    except importlib.metadata.PackageNotFoundError:
        return False


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and of numba
        from umap import UMAP

        return np.asarray(UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1).fit_transform(points))
