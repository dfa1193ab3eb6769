"""Narrow VGG16 to a quarter of its channels without learning: a backbone in two minutes, and the start of `vgg16_mini`.

    python recipes/narrow_backbone.py --data ../shared/data/cifar10.zip --teacher vgg16_imagenet \
        --pictures PHOTOGRAPHS --out narrow.npz

Of each convolution that quarter of the channels is kept from which all channels can be foretold best, one chosen after
another, and their kernels are solved by least squares from what the narrow network itself has computed so far, on 1,500
random parts of photographs and images of CIFAR-10 (after ThiNet, arXiv:1707.06342). `backbone="narrow.npz"` takes it.

On seeds 0 to 2, the default linear probe at 64 px then has 0.742 on average over five folders (hand signs, EuroSAT,
flowers, ants and bees, textures; `tests/benchmarks/backbones.py`). About 2 minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vggft.files.writing import whole_file

# vggft is imported before Keras, as it sets variables that TensorFlow reads when it is first imported.
from vggft.network.blocks import BLOCKS, COLUMNS, FILTERS, scaled
from vggft.network.vgg import preprocess
from vggft.network.weights import Pretrained, load_pretrained

# isort: split
import keras
import numpy as np
from PIL import Image
from sklearn.linear_model import Ridge

Array = np.ndarray
KERNELS = list(zip(BLOCKS, COLUMNS["D"], strict=True))
CONVOLUTIONS = [f"{block}_conv{k}" for block, kernels in KERNELS for k in range(1, len(kernels) + 1)]
EPSILON = 1e-3  # of batch normalisation


@dataclass(frozen=True)
class Narrow:
    width: float = 0.25
    image_size: int = 64
    views: int = 1500
    places: int = 30_000  # in the views, that a kernel is solved on
    seed: int = 0


def cifar10(path: Path, count: int) -> Iterator[Image.Image]:
    """Yield training images in the same random order every time."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("train/") and name.endswith(".jpg"))
        for name in np.random.default_rng(0).permutation(names)[:count]:
            yield Image.open(io.BytesIO(archive.read(name))).convert("RGB")


def crops(folders: Sequence[Path], count: int, seed: int) -> Iterator[Image.Image]:
    """Yield random parts, of 5 to 100 % of the area and nearly square, of each picture in some folders."""
    kinds = (".jpg", ".jpeg", ".png", ".webp")
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in kinds)
    for number in np.random.default_rng(seed).permutation(len(files)):
        rng = np.random.default_rng((seed, number))
        (picture := Image.open(files[number])).thumbnail((1024, 1024), reducing_gap=2.0)
        grey = Image.new("RGBA", picture.size, (118, 118, 118))
        whole = Image.alpha_composite(grey, picture.convert("RGBA")).convert("RGB")
        for _ in range(count):
            side = np.sqrt(rng.uniform(0.05, 1)) * np.exp(rng.uniform(-0.15, 0.15, 2) * [1, -1]) * min(whole.size)
            wide, high = np.minimum(side, whole.size)
            left, top = rng.uniform(0, 1, 2) * (whole.width - wide, whole.height - high)
            yield whole.crop(tuple(np.rint((left, top, left + wide, top + high)).astype(int).tolist()))


def pixels_of(pictures: Iterator[Image.Image] | list[Image.Image], size: int) -> Array:
    """(N, size, size, 3) uint8."""
    return np.stack([np.asarray(each.resize((size, size), Image.Resampling.BILINEAR)) for each in pictures])


def views(data: Path, pictures: Sequence[Path], config: Narrow) -> Array:
    """Two parts of each picture, then images of CIFAR-10: (N, side, side, 3) uint8."""
    both = chain(crops(pictures, 2, config.seed), cifar10(data, config.views))
    return pixels_of(islice(both, config.views), config.image_size)


def narrowed(pretrained: Pretrained, pixels: Array, config: Narrow) -> tuple[dict[str, Array], dict[str, Array]]:
    """Solve a narrow network for a wide one, layer by layer.

    Args:
        pretrained: weights of column D.
        pixels: (N, side, side, 3) uint8.

    Returns:
        For each convolution its kernel, and gamma, beta, mean and variance of a batch normalisation that changes
        nothing; and the wide network's outputs of its blocks, (N, H, W, C).
    """
    rng = np.random.default_rng(config.seed)
    wide = narrow = np.asarray(preprocess(keras.ops.cast(pixels, "float32")))
    found, maps = {}, {}
    for name, following in zip(CONVOLUTIONS, [*CONVOLUTIONS[1:], ""], strict=True):
        block, ends = name[:6], name[:6] != following[:6]
        wanted = convolved(wide, pretrained.arrays[f"{name}/kernel"]) + pretrained.arrays[f"{name}/bias"]
        wide = rectified(wanted, ends)
        heard = (
            np.square(pretrained.arrays[f"{following}/kernel"].astype("float32")).sum((0, 1, 3)) if following else 1.0
        )
        some = wide.reshape(-1, wide.shape[-1])
        some = some[rng.integers(0, len(some), config.places)] * np.sqrt(heard)
        kept = spanning(some, scaled(FILTERS[BLOCKS.index(block)], config.width))
        kernel, bias = solved(narrow, wanted[..., kept], config.places, rng)
        narrow = convolved(narrow, kernel)
        mean, variance = narrow.mean((0, 1, 2)), narrow.var((0, 1, 2))
        found |= {
            f"{name}/kernel": kernel,
            f"{name}/norm": np.stack([np.sqrt(variance + EPSILON), mean + bias, mean, variance]),
        }
        narrow = rectified(narrow + bias, ends)
        maps |= {block: wide} if ends else {}
    return found, maps


def convolved(images: Array, kernel: Array) -> Array:
    parts = np.array_split(images, -(-len(images) // 100))  # little memory at a time
    kernel = kernel.astype("float32")
    return np.concatenate([np.asarray(keras.ops.conv(part, kernel, padding="same")) for part in parts])


def rectified(values: Array, pooled: bool) -> Array:
    n, high, wide, channels = values.shape
    values = np.maximum(values, 0)
    return values.reshape(n, high // 2, 2, wide // 2, 2, channels).max((2, 4)) if pooled else values


def spanning(values: Array, count: int) -> Array:
    """Return the columns from which all columns of (rows, columns) can be foretold best, chosen one after another."""
    left, chosen = np.cov(values.astype("float64"), rowvar=False), list[int]()
    least = 1e-9 * np.trace(left) + 1e-30
    for _ in range(count):
        spread = np.maximum(np.diag(left), least)
        gain = np.square(left).sum(0) / spread
        gain[chosen] = -1
        chosen.append(best := int(gain.argmax()))
        left = left - np.outer(left[:, best], left[best]) / spread[best]
    return np.array(chosen)


def solved(images: Array, wanted: Array, places: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the 3 x 3 kernel and the bias that map images to (N, H, W, channels), by least squares at some places.

    What lies far below 0 may lie anywhere below: the rectifier that follows makes it 0.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    where, down, right = (rng.integers(0, most, places) for most in images.shape[:3])
    patches = [padded[where, down + i, right + j] for i in range(3) for j in range(3)]
    x, y = np.concatenate(patches, axis=1).astype("float64"), wanted[where, down, right].astype("float64")
    line = Ridge(alpha=1e-4 * x.var(0).mean() * len(x)).fit(x, np.maximum(y, -y.std(0)))
    kernel = line.coef_.T.reshape(3, 3, images.shape[-1], -1)
    return kernel.astype("float32"), line.intercept_.astype("float32")


def main(data: Path, out: Path, config: Narrow, teacher: Any, pictures: Sequence[Path]) -> None:
    solution, _ = narrowed(load_pretrained(teacher), views(data, pictures, config), config)
    weights = {}
    for name in CONVOLUTIONS:
        _, shifted, mean, _ = solution[f"{name}/norm"]
        weights |= {f"{name}/kernel": solution[f"{name}/kernel"], f"{name}/bias": shifted - mean}
    with whole_file(out) as aside:
        np.savez_compressed(aside, **weights)
    print(f"{sum(array.size for array in weights.values()):,} weights in {len(CONVOLUTIONS)} convolutions: {out}")


def asked(about: str | None, out: str) -> dict[str, Any]:
    """Read the command line of this recipe, and of the one that goes on from it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cifar10.zip: train/<class>/*.jpg")
    parser.add_argument("--teacher", default="vgg16_imagenet", help="a preset, or a file of VGG16's weights")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photographs; no labels")
    parser.add_argument("--out", type=Path, default=Path(out))
    return vars(parser.parse_args())


if __name__ == "__main__":
    main(config=Narrow(), **asked(__doc__, "narrow.npz"))
