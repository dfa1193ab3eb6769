"""A table of the pictures that people bring: each has the right pixels, or is refused in words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.errors import DataError
from vggft.pictures import files
from vggft.pictures.arrays import to_pixels
from vggft.pictures.decoding import decode, reason
from vggft.pictures.formats import BOMB_PIXELS
from vggft.pictures.reading import Reading, over_picture, reading_of

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (40, 50, 3)).astype(np.uint16)
DEEP[0, 0], DEEP[1, 1] = 4095, 0
FOUR = RNG.integers(1, 255, (40, 50, 4)).astype(np.uint8)
CLEAR = np.concatenate([FOUR[..., :3], np.where(FOUR[..., 3:] > 99, 255, 0).astype(np.uint8)], axis=-1)


def read_image(source: Any, reading: Any = None) -> Any:
    """Read a picture, and compare it with what its decoder gives without a process that has limits."""
    here: Any
    try:
        here = decode(source, Reading.of(reading), BOMB_PIXELS, lambda size: None).pixels
    except Exception as error:
        here = reason(error)
    try:
        found = files.read_image(source, reading)
    except DataError as error:
        assert isinstance(here, str) and here in str(error)
        raise
    np.testing.assert_array_equal(found.pixels, here)
    return found


def tiff(path: Path, array: np.ndarray, colours: str = "rgb", **how: Any) -> Path:
    tifffile.imwrite(path, array, photometric=colours, **how)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path.with_suffix(".npy")


def pillow(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def png16(path: Path, array: np.ndarray) -> Path:
    import tensorflow as tf

    path.write_bytes(tf.io.encode_png(array).numpy())
    return path


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, on import
@pytest.mark.parametrize(
    ("name", "write", "array"),
    [
        ("12 bits.tif", pillow, DEEP[..., 0]),
        ("12 bits.png", pillow, DEEP[..., 0]),
        ("12 bits of colour.tif", tiff, DEEP),
        ("12 bits of colour, deflated.tif", lambda path, array: tiff(path, array, compression="zlib"), DEEP),
        ("12 bits of colour.png", png16, DEEP),
        ("16 bits with alpha.png", png16, CLEAR.astype(np.uint16) * 257),
        ("12 bits.npy", npy, DEEP),
        ("32 bits.tif", pillow, DEEP[..., 0].astype(np.int32)),
        ("float 0 to 1.02.tif", pillow, (DEEP[..., 0] / 4095 * 1.02).astype(np.float32)),
        ("float of colour.tif", tiff, (DEEP / 4095).astype(np.float32)),
        ("float64.tif", lambda path, array: tiff(path, array, "minisblack"), DEEP[..., 0] / 4095),
        ("float16.tif", lambda path, array: tiff(path, array, "minisblack"), (DEEP[..., 0] / 4095).astype(np.float16)),
        ("float.npy", npy, DEEP / 4095 * 255),
        ("alpha.tif", pillow, CLEAR),
        ("alpha.png", pillow, CLEAR),
    ],
)
def test_a_file_gives_the_pixels_that_its_array_gives(name: str, write: Any, array: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / name, array)
    for size in (None, (32, 48)):
        reading = Reading(size)
        expected = np.rint(to_pixels(array[None], reading)[0]).astype(np.uint8)
        np.testing.assert_array_equal(read_image(path, reading).pixels, expected)
    assert len(np.unique(read_image(path).pixels)) > 200  # grey levels
    assert read_image(path.read_bytes()).pixels.shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("name", "write", "array", "words"),
    [
        ("near infrared.tif", pillow, FOUR, r"has 4 bands, .* bands=\(0, 1, 2\) \(--bands 0,1,2\)"),
        ("unspecified.tif", lambda p, a: tiff(p, a, extrasamples=["unspecified"]), CLEAR, "has 4 bands"),
        (
            "nine bands.tif",
            lambda p, a: tiff(p, a, "minisblack", planarconfig="contig"),
            np.concatenate([DEEP] * 3, axis=-1),
            "has 9 bands",
        ),
        ("pages.tif", lambda p, a: tiff(p, a, "minisblack"), np.stack([FOUR[..., 0]] * 3), "has several pages"),
        ("signed.tif", pillow, DEEP[..., 0].astype(np.int32) - 1000, r"the value -1000, .*value_range=\(-1000, 3095\)"),
        ("signed 8.tif", lambda p, a: tiff(p, a, "minisblack"), FOUR[..., 0].astype(np.int8), "holds the value -1"),
        ("scaled.tif", pillow, DEEP[..., 0].astype(np.float32), r"float pixels must be in 0\.\.1 or 0\.\.255"),
        ("dim.tif", pillow, (DEEP[..., 0] / 1000).astype(np.float32), r"holds the value 4\.095, .*value_range"),
        ("objects.npy", npy, np.array([{}], object), "Python objects, which may run code"),
        ("words.npy", npy, np.array(["a"]), "holds values of dtype <U1"),
        ("channels first.npy", npy, np.moveaxis(DEEP, -1, 0), "channels first: move them last with np.moveaxis"),
        ("a batch.npy", npy, DEEP[None], r"shape \(1, 40, 50, 3\); a picture has shape"),
    ],
)
def test_what_cannot_be_known_is_refused(name: str, write: Any, array: np.ndarray, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, array)
    with pytest.raises(DataError, match=rf"{name} .*{words}"):
        read_image(path, 32)
    if "bands" in words:
        chosen = read_image(path, Reading(bands=(2, 0, 1))).pixels
        np.testing.assert_array_equal(chosen, to_pixels(array[..., [2, 0, 1]][None])[0])
    if "value_range" in words:
        low, high = float(array.min()), float(array.max())
        found = read_image(path, reading_of(32, value_range=(low, high))).pixels
        assert found.std() > 30


def test_a_claimed_size_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    with (tmp_path / "bomb.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<u2", "fortran_order": False, "shape": (200_000, 200_000, 3)}
        )
    with pytest.raises(DataError, match="above the limit of 179 million"):
        read_image(tmp_path / "bomb.npy")
    whole = npy(tmp_path / "whole", DEEP).read_bytes()
    (tmp_path / "part.npy").write_bytes(whole[:2000])
    with pytest.raises(DataError, match="is truncated"):
        read_image(tmp_path / "part.npy")


# Fitting to a size ----------------------------------------------------------------------------------------------------


def test_crop_takes_the_middle_and_pad_keeps_proportions() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, :100], image[:, 100:200], image[:, 200:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    square = {rule: read_image(Image.fromarray(image), Reading((64, 64), rule)).pixels for rule in ("crop", "pad")}
    assert (square["crop"] == (0, 255, 0)).all()
    pad = square["pad"]
    rows = np.flatnonzero(pad.any(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (21, 41)  # 64 / 3 rows of the picture, the others black
    assert pad[30, 5].tolist() == [255, 0, 0] and pad[30, 32].tolist() == [0, 255, 0]
    exact = read_image(Image.fromarray(image), Reading((100, 300), "pad")).pixels
    np.testing.assert_array_equal(exact, image)


def test_a_map_is_drawn_where_the_network_looked() -> None:
    heat = np.ones((64, 64), np.float32)
    crop, pad = (over_picture(heat, (300, 100), Reading((64, 64), rule)) for rule in ("crop", "pad"))
    assert crop.shape == pad.shape == (100, 300)
    assert (crop[:, 100:200] == 1).all() and crop.sum() == 100 * 100 and (pad == 1).all()


def test_large_jpegs_are_decoded_smaller_by_every_rule(tmp_path: Path) -> None:
    small = Image.fromarray(RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8))
    large = small.resize((1800, 1200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(tmp_path / "a.jpg", quality=95)
    large.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    for name in ("a.jpg", "turned.jpg"):
        for rule in ("squash", "crop", "pad"):
            reading = Reading((48, 96), rule)
            quick = read_image(tmp_path / name, reading).pixels
            with Image.open(tmp_path / name) as image:
                image.load()
                exact = read_image(image, reading).pixels
            assert np.abs(quick.astype(int) - exact).max() <= (4 if rule == "squash" else 0), (name, rule)


# DICOM ----------------------------------------------------------------------------------------------------------------


def dicom(path: Path, array: np.ndarray, **tags: Any) -> Path:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 if array.dtype == np.uint8 else 12
    about = {"Rows": array.shape[-2], "Columns": array.shape[-1], "SamplesPerPixel": 1, "BitsStored": bits}
    about |= {"BitsAllocated": 8 * array.itemsize, "HighBit": bits - 1, "PixelRepresentation": 0}
    about |= {"PhotometricInterpretation": "MONOCHROME2", "PixelData": array.tobytes()} | tags
    for name, value in about.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


CT = np.linspace(0, 4095, 2000).reshape(40, 50).astype(np.uint16)
HU = {"RescaleSlope": 1, "RescaleIntercept": -1024}


def test_a_dicom_is_read_by_its_window_or_by_a_given_range(tmp_path: Path) -> None:
    path = dicom(tmp_path / "ct.dcm", CT, **HU, WindowCenter=40, WindowWidth=400)
    found = read_image(path)
    window = np.clip(((CT.astype(float) - 1024 - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert found.format == "DICOM" and np.abs(found.pixels[..., 0] - window).max() <= 0.5
    given = read_image(path, Reading(integers=(-1000, 1000), floats=(-1000, 1000), clips=True)).pixels[..., 0]
    assert np.abs(given - np.clip((CT.astype(float) - 24) * 255 / 2000, 0, 255)).max() <= 0.5
    path.rename(tmp_path / "IM0001")
    np.testing.assert_array_equal(read_image(tmp_path / "IM0001").pixels, found.pixels)


def test_a_dicom_without_a_window(tmp_path: Path) -> None:
    plain = read_image(dicom(tmp_path / "plain.dcm", CT)).pixels
    np.testing.assert_array_equal(plain, to_pixels(CT[None])[0])
    inverted = read_image(dicom(tmp_path / "one.dcm", CT, PhotometricInterpretation="MONOCHROME1")).pixels
    np.testing.assert_array_equal(inverted, to_pixels(4095 - CT[None])[0])
    light = dicom(tmp_path / "light.dcm", CT + 4000, PhotometricInterpretation="MONOCHROME1", BitsStored=16, HighBit=15)
    beyond = read_image(
        light, Reading(integers=(0, 4095), floats=(0, 4095), clips=True)
    ).pixels  # values above are black
    expected = np.clip(4095 - (CT.astype(int) + 4000), 0, 4095) * 255 / 4095
    assert np.abs(beyond[..., 0] - expected).max() <= 0.5
    with pytest.raises(DataError, match=r"holds the value -1024, .*value_range=\(-1024, 3071\)"):
        read_image(dicom(tmp_path / "hu.dcm", CT, **HU))
    with pytest.raises(DataError, match="has 3 frames"):
        read_image(dicom(tmp_path / "film.dcm", np.stack([CT] * 3), NumberOfFrames=3))


def test_without_pydicom_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicom(tmp_path / "ct.dcm", CT)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"is a DICOM file, which needs pydicom: pip install pydicom"):
        files.read_image(path)


# From training to prediction ------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"backbone": "vgg16_mini", "image_size": 32, "precision": "float32", "verbose": 0}


def folder(root: Path, write: Any, suffix: str, scale: Any) -> list[Path]:
    paths = []
    for i in range(24):
        values = RNG.integers(0, 1000 if i % 2 else 4096, (36, 44))
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        paths.append(write(root / "ab"[i % 2] / f"{i}{suffix}", scale(values)))
    return paths


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, on import
@pytest.mark.parametrize(
    ("suffix", "write", "scale", "taken"),
    [
        (".tif", pillow, lambda values: values.astype(np.uint16), (0, 4095)),
        pytest.param(
            ".tif",
            pillow,
            lambda values: (values / 4095 * 1.02).astype(np.float32),
            (0, 1),
            marks=pytest.mark.slow,
        ),
        pytest.param("", npy, lambda values: values.astype(np.uint16) * 16, (0, 65535), marks=pytest.mark.slow),
    ],
    ids=["12 bits", "floats to 1.02", "npy"],
)
def test_a_picture_is_the_same_alone_in_a_batch_as_file_and_as_array(
    suffix: str, write: Any, scale: Any, taken: tuple[float, float], tmp_path: Path
) -> None:
    paths = folder(tmp_path / "data", write, suffix, scale)
    made = vggft.finetune(tmp_path / "data", 2, **QUICK)
    made.save(tmp_path / "made.keras")
    for classifier in (made, vggft.load(tmp_path / "made.keras")):
        assert classifier.description.value_range == taken
        together = classifier.predict(paths)
        for row in (1, 4):
            array = np.load(paths[row]) if paths[row].suffix == ".npy" else np.asarray(Image.open(paths[row]))
            for each in (paths[row], [paths[row]], array[None], [array]):
                np.testing.assert_allclose(classifier.predict(each)[0], together[row], atol=1e-6)
    assert classifier.explain(paths[1]).picture.shape == (36, 44, 3)
    np.testing.assert_allclose(
        classifier.evaluate(tmp_path / "data").probabilities, classifier.predict(sorted(paths)), atol=1e-6
    )


def test_prediction_refuses_what_training_refuses(stripes: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = stripes
    classifier = vggft.finetune(stripes, 3, **QUICK)
    bad = {
        "preprocessed": images.astype(np.float32) - np.float32([103.939, 116.779, 123.68]),
        "-1..1": images / 127.5 - 1,
        "times 16": images * 16.0,
        "four bands": np.concatenate([images, images[..., :1]], axis=-1),
        "nan": np.where(np.arange(3) == 1, np.nan, images),
    }
    for name, given in bad.items():
        for use in (
            lambda given: vggft.finetune((given, labels), 3, **QUICK),
            classifier.predict,
            classifier.classify,
            classifier.explain,
            lambda given: classifier.evaluate((given, labels)),
        ):
            with pytest.raises(DataError):
                use(given)
                pytest.fail(name)
    for same in (images / 255, images.astype(float), images.astype(int), list(images)):
        np.testing.assert_allclose(classifier.predict(same), classifier.predict(images), atol=1e-3)


def test_rectangles_and_rules_are_kept(stripes: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, labels = stripes
    tall = np.concatenate([images, images], axis=1)
    how = QUICK | {"image_size": (64, 32), "resize": "pad", "bands": (2, 1, 0)}
    made = vggft.finetune((tall, labels), 3, **how, test=0.2)
    made.save(tmp_path / "made.keras")
    loaded = vggft.load(tmp_path / "made.keras")
    reading = loaded.description.reading
    assert (reading.size, reading.resize, reading.bands) == ((64, 32), "pad", (2, 1, 0))
    assert loaded.keras_model.input_shape == (None, 64, 32, 3)
    np.testing.assert_allclose(loaded.predict(tall), loaded.keras_model.predict(tall[..., ::-1], verbose=0), atol=1e-5)
    assert loaded.explain(tall[0]).heatmap.shape == (64, 32)
    with pytest.raises(vggft.ConfigError, match="resize='crop' contradicts start"):
        loaded.update((tall, labels), resize="crop", verbose=0)
