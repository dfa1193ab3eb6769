"""The same picture saved again is found, another picture of the same kind is not, and splits keep them together."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vggft.data.twins import near, signatures, twins

SIDE = 96


def scene(seed: int) -> Image.Image:
    """A picture with the spectrum of a photograph."""
    rng = np.random.default_rng(seed)
    waves = np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE) * SIDE)), 1)
    planes = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / waves).real for _ in range(3)]
    pixels = np.stack(planes, axis=-1)
    return Image.fromarray((128 + 45 * pixels / pixels.std()).clip(0, 255).astype("uint8"))


def again(image: Image.Image, how: str) -> Image.Image:
    if how == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=40)
        return Image.open(file)
    if how == "cropped":
        return image.crop((2, 3, SIDE - 3, SIDE - 1)).resize((SIDE, SIDE))
    if how == "resized":
        return image.resize((SIDE // 2, SIDE // 2)).resize((SIDE, SIDE))
    return ImageOps.mirror(image) if how == "mirrored" else ImageEnhance.Brightness(image).enhance(1.2)


@pytest.mark.parametrize("how", ["jpeg", "cropped", "resized", "mirrored", "brighter"])
def test_the_same_picture_is_found_among_others(how: str) -> None:
    scenes = [scene(seed) for seed in range(40)]
    pixels = np.stack([np.asarray(each) for each in (*scenes, again(scenes[3], how), again(scenes[8], how))])
    assert twins(signatures(pixels)) == [(3, 40), (8, 41)]


def test_copies_are_told_elsewhere_and_flat_pictures_are_no_twins() -> None:
    assert near([(0, 1), (2, 3, 4)], ["a", "a", "b", "b", "c"]) == [(2, 4)]
    flat = np.full((3, 32, 32, 3), 100, np.uint8)
    flat[1] += 1
    assert twins(signatures(flat)) == [] and twins(signatures(flat[:0])) == []
    red, blue = (np.full((32, 32, 3), 255, np.uint8) for _ in range(2))
    red[8:24, 8:24, 1:] = 0
    blue[8:24, 8:24, :2] = 0
    assert twins(signatures(np.stack([red, blue]))) == []


def test_splits_keep_near_duplicates_together_if_asked(tmp_path: Path) -> None:
    from vggft.caching.cache import Cache
    from vggft.splits.pool import prepare
    from vggft.telling.progress import Narrator

    pixels = np.stack([np.asarray(scene(seed)) for seed in range(20)])
    pixels = np.concatenate([pixels, np.minimum(pixels.astype(int) + 12, 255).astype("uint8")])
    how: dict[str, Any] = {"reading": SIDE, "cache": Cache(tmp_path), "narrator": Narrator(0), "validation": 0.3}
    data = pixels, np.tile(np.arange(20) % 2, 2)
    apart = prepare(data, 2, group="near-duplicates", **how)
    assert set(apart.rows["train"] % 20).isdisjoint(apart.rows["validation"] % 20)
    assert "20 groups of 40 images" in "".join(apart.notes)
    others = np.stack([np.asarray(scene(seed)) for seed in range(40, 48)]), np.arange(8) % 2
    given = prepare(data, 2, group="near-duplicates", **(how | {"validation": others}))
    assert [len(rows) for rows in given.rows.values()] == [40, 8]  # images[0] of the one is not that of the other
    assert not set(prepare(data, 2, **how).rows["train"] % 20).isdisjoint(apart.rows["validation"] % 20)
