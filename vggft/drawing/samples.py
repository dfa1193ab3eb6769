"""Some pictures of each class of a dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from ..caching.cache import Cache
from ..data.dataset import concatenate, open_dataset
from ..data.scan import scan
from ..data.streams import Keep
from ..errors import short_traceback
from ..fields import check_count
from ..pictures.reading import Reading
from ..telling.figures import short
from ..telling.progress import Narrator
from .display import Display

SMALL, GAP, ABREAST = 96, 6, 10  # px of a picture and between two; classes beside each other


@short_traceback
class SamplesDisplay(Display):
    """Some pictures of each class, a column for each, below its name.

    Args:
        pictures: class name -> its pictures, each (96, 96, 3) uint8 RGB.

    >>> pixels = np.zeros((6, 32, 32, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    >>> SamplesDisplay.from_dataset((pixels, [0, 1, 0, 1, 0, 1]), each=2)
    <SamplesDisplay of 4 images of 2 classes>
    """

    def __init__(self, pictures: Mapping[str, Sequence[np.ndarray]]):
        self.pictures = dict(pictures)
        self.bands = math.ceil(len(self.pictures) / ABREAST)
        self.each = max(map(len, self.pictures.values()), default=0)
        self.size = 0.85 * min(len(self.pictures), ABREAST) + 0.2, self.bands * (0.8 * self.each + 0.35)

    @classmethod
    def from_dataset(cls, dataset: Any, *, each: int = 4, seed: int = 0) -> Self:
        """Draw lots for some images of each class, of any kind of dataset that `vggft.finetune` takes.

        Args:
            dataset: the images, of all splits; they are cropped to squares.
            each: number of images of a class, >= 1.
            seed: of the lots, >= 0.

        Raises:
            DataError: the dataset cannot be used.
            ConfigError: `each` or `seed` is no such number.
        """
        check_count("each", each, 1, 100)
        check_count("seed", seed, 0, 2**32 - 1)
        reading = Reading(size=(SMALL, SMALL), resize="crop")
        whole = concatenate([*open_dataset(dataset, keep=Keep(reading, Cache(), Narrator(0))).values()])
        rng, chosen = np.random.default_rng(seed), list[np.ndarray]()
        for c in range(whole.num_classes):
            rows = np.flatnonzero(whole.labels[:, c] if whole.multi_label else whole.labels == c)
            chosen.append(np.sort(rng.permutation(rows)[:each]))
        part = whole.subset(np.concatenate(chosen))
        pixels = np.zeros((len(part), SMALL, SMALL, 3), np.uint8)
        unread = scan(part, reading, pixels).problems
        ends = np.cumsum([0, *map(len, chosen)])
        return cls(
            {
                name: [pixels[i] for i in range(ends[c], ends[c + 1]) if i not in unread]
                for c, name in enumerate(whole.class_names)
            }
        )

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        step, title = SMALL + GAP, SMALL // 3
        high, wide = self.each * step + title, min(len(self.pictures), ABREAST) * step
        canvas = np.zeros((max(1, self.bands * high), max(1, wide), 4), np.uint8)
        for number, (name, pictures) in enumerate(self.pictures.items()):
            band, column = divmod(number, ABREAST)
            axes[0].text(column * step + SMALL / 2, band * high + 0.6 * title, short(name, 12), ha="center", fontsize=8)
            for i, picture in enumerate(pictures):
                top, left = band * high + title + i * step, column * step
                canvas[top : top + SMALL, left : left + SMALL, :3] = picture
                canvas[top : top + SMALL, left : left + SMALL, 3] = 255
        axes[0].imshow(canvas)
        axes[0].set_axis_off()

    def __repr__(self) -> str:
        count = sum(map(len, self.pictures.values()))
        return f"<SamplesDisplay of {count} images of {len(self.pictures)} classes>"
