"""Arrays of every kind become RGB pixels in 0..255; the inputs of `predict`."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vggft.errors import DataError
from vggft.pictures.arrays import as_sequence, read_images, settled, to_pixels
from vggft.pictures.files import read_image
from vggft.pictures.ranges import note, settle, values_of
from vggft.pictures.reading import Reading, reading_of, resize_pixels


def noise(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


pixels_of_noise = noise()


def test_uint8_is_kept_as_it_is() -> None:
    images = noise()[None]
    assert to_pixels(images) is images
    assert to_pixels(images[:, :20], 64).shape == (1, 64, 64, 3)  # small ones are enlarged


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.array([0, 127, 255], np.int64), "integer 0..255", np.array([0, 127, 255], np.uint8)),
        (np.array([0, 127, 250], np.uint16), "integer 0..255", np.array([0, 127, 250], np.uint8)),
        (np.array([0, 512, 1023], np.uint16), "integer 0..1023", np.array([0, 128, 255], np.uint8)),
        (np.array([0, 273, 4095], np.uint16), "integer 0..4095", np.array([0, 17, 255], np.uint8)),
        (np.array([0, 273, 4000], np.int16), "integer 0..4095", np.array([0, 17, 249], np.uint8)),
        (np.array([0, 257, 65535], np.uint16), "integer 0..65535", np.array([0, 1, 255], np.uint8)),
        (np.array([False, True]), "bool 0..1", np.array([0, 255], np.uint8)),
        (np.array([0, 0.5, 1]), "float 0..1", np.array([0, 127.5, 255], np.float32)),
        (np.array([-0.01, 0.5, 1.02]), "float 0..1", np.array([0, 127.5, 255], np.float32)),
        (np.array([0, 0.5, 100]), "float 0..255", np.array([0, 0.5, 100], np.float32)),
        (np.array([0.0, 2, 3]), "float 0..255", np.array([0, 2, 3], np.float32)),
        (np.array([0, 0.5, 1], np.float16), "float 0..1", np.array([0, 127.5, 255], np.float32)),
    ],
)
def test_values_come_to_0_to_255(values: np.ndarray, kind: str, expected: np.ndarray) -> None:
    images = np.resize(values, (2, 33, 32, 3))
    pixels = to_pixels(images)
    assert note([values_of(images)], settle([values_of(images)], Reading())) == f"the images are taken to be {kind}"
    assert pixels.dtype == expected.dtype
    np.testing.assert_allclose(pixels, np.resize(expected, (2, 33, 32, 3)), rtol=1e-6)


def test_one_scale_holds_for_the_whole_array() -> None:
    images = np.zeros((2, 32, 32, 3))
    images[0], images[1] = 0.5, 200
    assert to_pixels(images)[0].max() == 0.5
    deep = np.stack([np.full((32, 32, 3), 250), np.full((32, 32, 3), 4095)]).astype(np.uint16)
    assert to_pixels(deep)[:, 0, 0, 0].tolist() == [16, 255]


def test_a_range_that_was_given_holds() -> None:
    deep = np.array([-2000, -1000, 0, 1000, 5000], np.int16)[:, None, None] * np.ones((1, 32, 32), np.int16)
    given = reading_of(32, value_range=(-1000, 1000))
    assert to_pixels(deep, given)[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_pixels(deep.astype(np.float32), given)[:, 0, 0, 0].tolist() == [0, 0, 127.5, 255, 255]
    eight = np.full((1, 32, 32), 100, np.uint8)
    assert (to_pixels(eight, given) == 100).all()


def test_a_range_that_was_decided_refuses_what_is_beyond() -> None:
    decided = Reading((32, 32), integers=(0, 4095), floats=(0, 1))
    assert to_pixels(np.full((1, 32, 32), 250, np.uint16), decided).max() == 16
    with pytest.raises(
        DataError, match=r"holds the value 5000, but the others, .* are taken to be integer 0\.\.4095: .*value_range"
    ):
        to_pixels(np.full((1, 32, 32), 5000, np.uint16), decided)
    with pytest.raises(DataError, match=r"holds the value 200, but the others, .* are taken to be float 0\.\.1"):
        to_pixels(np.full((1, 32, 32), 200.0), decided)


def test_all_bad_images_are_named_at_once() -> None:
    images = np.ones((30, 32, 32, 3), np.float32)
    images[3, 5, 5, 1], images[7], images[8] = np.nan, -0.1, 256
    images[9, 0, 0, 0] = np.inf
    with pytest.raises(DataError) as caught:
        to_pixels(images)
    text = str(caught.value)
    assert "0..1 or 0..255" in text or "already preprocessed" in text
    for part in ("images[3] holds NaN", "images[7] holds the value -0.1", "images[8] holds the value 256", "images[9]"):
        assert part in text
    assert text.count("images[") == 4
    images[:] = -1
    with pytest.raises(DataError, match="and 10 more"):
        to_pixels(images)
    with pytest.raises(DataError, match=r"photos\[1\] holds the value 70000.*value_range"):
        to_pixels(np.stack([np.zeros((32, 32, 3), int), np.full((32, 32, 3), 70000)]), name="photos")


@pytest.mark.parametrize(
    "images",
    [
        pixels_of_noise.astype(np.float32) - np.float32([103.939, 116.779, 123.68]),
        pixels_of_noise / 127.5 - 1,
        pixels_of_noise * 16.0,
        pixels_of_noise / 255 * 3.1,
    ],
    ids=["preprocess_input", "-1..1", "times 16", "0..3.1"],
)
def test_what_was_preprocessed_is_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"float pixels must be in 0\.\.1 or 0\.\.255.*value_range"):
        to_pixels(images[None])


def test_greys_and_alpha() -> None:
    grey = noise()[None, ..., 0]
    for images in (grey, grey[..., None]):
        np.testing.assert_array_equal(to_pixels(images), np.stack([grey] * 3, axis=-1))
    rgba = np.zeros((1, 32, 32, 4), np.uint8)
    rgba[..., 3] = np.array([0, 255], np.uint8).repeat(16)
    pixels = to_pixels(rgba)
    assert pixels.dtype == np.uint8 and (pixels[:, :, :16] == 255).all() and (pixels[:, :, 16:] == 0).all()
    half = np.full((1, 32, 32, 4), 0.5)
    half[:, :16, :, 3] = 1
    assert to_pixels(half).max() == 191.25  # half of a middle grey on white


def test_a_fourth_band_is_not_taken_for_transparency() -> None:
    image = np.concatenate([noise(), noise(seed=1)[..., :1]], axis=-1)
    flat = np.concatenate([noise(), np.full((48, 64, 1), 40, np.uint8)], axis=-1)
    for each in (image, flat, image.astype(np.uint16) * 257, image / 255):
        with pytest.raises(DataError, match=r"has 4 bands, and the last does not look like .*bands=\(0, 1, 2\)"):
            to_pixels(each[None])
    chosen = to_pixels(image[None], Reading(bands=(3, 0, 1)))
    np.testing.assert_array_equal(chosen[0], image[..., [3, 0, 1]])
    many = np.concatenate([noise()] * 4, axis=-1)
    np.testing.assert_array_equal(to_pixels(many[None], Reading(bands=(9, 10, 11)))[0], noise())
    with pytest.raises(DataError, match=r"12 bands, but bands=\(0, 1, 12\) asks for number 12"):
        to_pixels(many[None], Reading(bands=(0, 1, 12)))
    with pytest.raises(DataError, match=r"bands=\(0, 1, 2\)"):
        to_pixels(many[None])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((48, 48, 3), r"a single image: add an axis for the batch with images\[None\]"),
        ((2, 3, 48, 48), "channels first"),
        ((2, 48, 48, 2), r"must have shape \(N, H, W, 3\)"),
        ((48,), "must have shape"),
        ((2, 0, 28, 1), "must have shape"),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_pixels(np.zeros(shape, np.uint8))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(DataError, match="must be an array of numbers; got dtype complex"):
        to_pixels(np.zeros((1, 32, 32, 3), complex))


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 80), st.integers(32, 80), st.integers(32, 64), st.integers(0, 9))
def test_arrays_and_files_are_resized_by_one_rule(height: int, width: int, image_size: int, seed: int) -> None:
    image = noise(height, width, seed)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    expected = read_image(file.getvalue(), image_size).pixels
    np.testing.assert_array_equal(to_pixels(image[None], image_size)[0], expected)
    np.testing.assert_array_equal(resize_pixels(image, image_size), expected)
    floats = to_pixels(image[None].astype(float), image_size)
    np.testing.assert_array_equal(floats[0], expected)
    assert floats.dtype == (np.float32 if (height, width) == (image_size, image_size) else np.uint8)


# The inputs of `predict` ----------------------------------------------------------------------------------------------


def test_one_image_or_several_become_a_sequence() -> None:
    image = noise()
    for either in (image, image[None]):
        assert as_sequence(either).shape == (1, *image.shape)
    assert as_sequence("cat.jpg") == ["cat.jpg"]
    assert as_sequence(iter(["a.jpg", "b.jpg"])) == ["a.jpg", "b.jpg"]
    with pytest.raises(DataError, match="There are no images to predict"):
        as_sequence([])


def test_images_that_hardly_use_the_range_are_told() -> None:
    decided = Reading((32, 32), integers=(0, 4095), floats=(0, 255))
    for dark, light in ((np.full((32, 32, 3), 0.9), 200.0), (np.full((32, 32, 3), 250, np.uint16), 4000)):
        with pytest.warns(UserWarning, match="nearly black to it"):
            settled([dark], decided)
        settled([dark, np.full_like(dark, light)], decided)


def test_floats_share_one_scale() -> None:
    dark, light = np.full((32, 32, 3), 0.5), np.full((32, 32, 3), 200.0)
    pixels, problems = read_images([dark, light], settled([dark, light], Reading.of(32)))
    assert problems == {} and pixels[:, 0, 0, 0].tolist() == [0.5, 200]


def test_impossible_values_are_not_predicted() -> None:
    """They were once: NaN gave NaN, and images scaled to -1..1 gave any class."""
    good, bad, scaled = np.ones((3, 40, 40, 3)) * np.array([0.5, np.nan, -1])[:, None, None, None]
    images = as_sequence([good, bad, scaled, "missing.png"])
    pixels, problems = read_images(images, settled(images, Reading.of(32)), first=256)
    assert len(pixels) == 1 and len(problems) == 3
    assert "images[257] holds NaN or infinity" in problems[257] and "images[258] holds the value -1" in problems[258]
    assert "images" in problems[258] and problems[259] == "missing.png does not exist."


def test_a_classifier_of_8_bits_reads_deep_pictures_one_by_one() -> None:
    """Or a picture would be another one in a batch, and in an export, which sees one at a time."""
    twelve, sixteen = (np.full((32, 32, 3), value, np.uint16) for value in (4095, 65535))
    reading = Reading((32, 32), trained=True)
    both, _ = read_images([twelve, sixteen], settled([twelve, sixteen], reading))
    alone, _ = read_images([twelve], settled([twelve], reading))
    assert (both == 255).all() and (alone == 255).all()
