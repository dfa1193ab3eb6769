"""Exports, run by their own runtimes on files of every kind; and the image decoder within a SavedModel."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import vggft
from vggft.artifact.known import outputs_from
from vggft.classifier import Classifier
from vggft.config import Head
from vggft.deploy import export as module
from vggft.deploy import runtimes
from vggft.deploy.savedmodel_decoder import decode
from vggft.network import forward, head
from vggft.network.blocks import BLOCKS, sizes_of
from vggft.network.description import Description, build
from vggft.pictures.arrays import read_images
from vggft.pictures.files import read_image
from vggft.pictures.reading import Reading
from vggft.trust.strangers import fit_strangers
from vggft.trust.trust import Trust

SIZE = 32
FORMATS = [("model", "float32"), ("model.onnx", "float32"), ("model.tflite", "float32"), ("half.tflite", "float16")]
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}


def picture(seed: int = 0, height: int = 150, width: int = 140) -> Image.Image:
    """Coloured tiles with noise, so that rotation, mirroring and blurring all show."""
    rng = np.random.default_rng(seed)
    tiles = np.kron(rng.integers(0, 240, (height // 10, width // 10, 3)), np.ones((10, 10, 1)))
    return Image.fromarray((tiles + rng.integers(0, 16, tiles.shape)).astype("uint8"))


def encoded(image: Image.Image, format: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **how)
    return file.getvalue()


def few_bits(bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits per pixel, which Pillow reads but cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    grey = np.random.default_rng(0).integers(0, 2**bits, (40, 48), np.uint8)
    rows = [b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in grey]
    header = struct.pack(">IIBBBBB", 48, 40, bits, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def every_kind() -> dict[str, bytes]:
    """Files of every kind that a SavedModel accepts."""
    image = picture()
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(np.random.default_rng(1).integers(0, 256, (150, 140), np.uint8)))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    few = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=14)
    deep = Image.fromarray(np.random.default_rng(2).integers(0, 65536, (90, 120), np.uint16))
    files = {
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "444.jpg": encoded(image, "JPEG", subsampling=0),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "half.jpg": encoded(picture(3, 300, 420), "JPEG"),
        "quarter.jpg": encoded(picture(4, 530, 610), "JPEG"),
        "eighth.jpg": encoded(picture(5, 1100, 1030), "JPEG"),
        "rgb.png": encoded(image, "PNG"),
        "grey.png": encoded(image.convert("L"), "PNG"),
        "black and white.png": encoded(image.convert("1"), "PNG"),
        "rgba.png": encoded(clear, "PNG"),
        "la.png": encoded(clear.convert("LA"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "clear palette.png": encoded(palette, "PNG", transparency=3),
        "few colours.png": encoded(few, "PNG", bits=4),
        "few clear colours.png": encoded(few, "PNG", bits=4, transparency=bytes([0, 128] + [255] * 12)),
        "16 bits.png": encoded(deep, "PNG"),
        "16 bits of colour.png": tf.io.encode_png(np.asarray(image).astype(np.uint16) * 16).numpy(),
        "tall.png": encoded(image.resize((33, 40)), "PNG"),
        "very tall.jpg": encoded(picture(6, 700, 60), "JPEG"),
        "wide.png": encoded(image.resize((200, 34)), "PNG"),
    } | {f"{bits} bits.png": few_bits(bits) for bits in (1, 2, 4)}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "a maker", orientation
        files[f"turned {orientation}.jpg"] = encoded(image, "JPEG", exif=exif)
        files[f"turned {orientation}.png"] = encoded(image, "PNG", exif=exif)
        little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
        files[f"turned {orientation}, little-endian.jpg"] = encoded(image, "JPEG", exif=little)
    return files


def misleading() -> dict[str, bytes]:
    """Files whose orientation or transparency is easily misread."""
    image, exif = picture(), Image.Exif()
    exif[0x0112] = 6
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    plain, turned, png = encoded(image, "JPEG"), encoded(image, "JPEG", exif=exif), encoded(image, "PNG")
    few = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=14)

    def segment(marker: bytes, data: bytes) -> bytes:
        return b"\xff" + marker + struct.pack(">H", len(data) + 2) + data

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    long = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0"
    return {
        "EXIF in a comment": plain[:2] + segment(b"\xfe", b"Exif\0\0" + tiff) + plain[2:],
        "EXIF of a second picture": plain + segment(b"\xe1", b"Exif\0\0" + tiff),
        "EXIF behind XMP": turned[:2] + segment(b"\xe1", b"http://ns.adobe.com/xap/1.0/\0<x/>") + turned[2:],
        "orientation in four bytes": encoded(image, "JPEG", exif=b"Exif\0\0" + long),
        "eXIf in a text": png[:33] + chunk(b"tEXt", b"k\0eXIf" + tiff) + png[33:],
        "eXIf that begins as in a JPEG": png[:33] + chunk(b"eXIf", b"Exif\0\0" + tiff) + png[33:],
        "nearly clear colours": encoded(few, "PNG", bits=4, transparency=bytes([15] * 14)),
    }


@pytest.fixture(scope="module")
def in_graph() -> Any:
    return graph_of(Reading.of(SIZE))


def graph_of(reading: Reading) -> Any:
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(lambda data: decode(data, reading), input_signature=signature, autograph=False)


@pytest.mark.parametrize("size", [(40, 64), (64, 33)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_the_graph_fits_pictures_to_any_size_by_any_rule(resize: str, size: tuple[int, int]) -> None:
    reading = Reading(size, resize, integers=(0, 65535))
    graph = graph_of(reading)
    for name, data in every_kind().items():
        np.testing.assert_array_equal(graph(data).numpy(), read_image(data, reading).pixels, err_msg=name)


def test_the_graph_sees_the_very_pixels_that_we_see(in_graph: Any) -> None:
    for name, data in (every_kind() | misleading()).items():
        np.testing.assert_array_equal(in_graph(data).numpy(), read_image(data, SIZE).pixels, err_msg=name)


def test_the_graph_sees_the_very_pixels_of_real_photographs(in_graph: Any, shared_data: Path) -> None:
    """Photographs rotated by EXIF, some of 3024 px, and images from two other sources."""
    digits = sorted((shared_data / "sign_digits").glob("7/*"), key=lambda file: -file.stat().st_size)
    files = [*(shared_data / "exif").glob("*.jpg"), *digits[:6], *sorted((shared_data / "bccd").rglob("*.jpg"))[:4]]
    assert len(files) >= 20
    for file in files:
        np.testing.assert_array_equal(in_graph(file.read_bytes()), read_image(file, SIZE).pixels, err_msg=str(file))


def test_the_graph_refuses_what_it_cannot_decode(in_graph: Any) -> None:
    bad = {
        "expected the bytes of a JPEG or PNG": b"<html>",
        "number of bytes received": encoded(picture(), "WEBP"),  # not valid text, which a message has to be
        "in CMYK": encoded(picture().convert("CMYK"), "JPEG"),
        "Invalid": encoded(picture(), "JPEG")[:1500],
    }
    for message, data in bad.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            in_graph(data)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """A classifier with random weights, scaled so that its probabilities differ between images."""
    dense = Head(units=(16,), normalize="l2")  # every layer that a head may have
    description = Description(("ant", "bee", "雛菊 |"), SIZE, width=1 / 16, head=dense)
    keras.utils.set_random_seed(1)
    model = build(description, seed=1)
    pixels = np.stack([np.asarray(picture(i).resize((SIZE, SIZE))) for i in range(20)])
    features = forward.forward(forward.between(model, None, "unit_norm"), pixels)
    head.standardize(model, [features], dense.normalize)
    made = Classifier(model, description)
    blocks, width = BLOCKS[2:], 1 / 16
    _, averages = outputs_from(made.network, None, pixels, blocks)
    known = averages, np.eye(3, dtype="float32")[np.arange(20) % 3]
    made.trust = Trust(fit_strangers(*known, *known, blocks, sizes_of(blocks, width)))
    return made


@pytest.fixture(scope="module")
def exports(
    classifier: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Path], dict[str, module.Export]]:
    """An export in every format, each compared on files of every kind while it was written."""
    folder = tmp_path_factory.mktemp("exports")
    files = []
    for name, data in every_kind().items():
        (folder / name).write_bytes(data)
        files.append(folder / name)
    labels = classifier.predict(files).argmax(axis=1)
    found = {}
    for name, precision in [*FORMATS, ("light.tflite", "dynamic"), ("whole.tflite", "int8")]:
        found[name] = module.export(
            classifier,
            folder / name,
            pictures=files,
            labels=labels,
            precision=precision,
            max_changed=0.2 if precision == "dynamic" else 0.05,
        )
    return folder, files, found


def ask(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Predict by the runtime of the format."""
    opened = {"": runtimes.open_saved_model, ".onnx": runtimes.open_onnx, ".tflite": runtimes.open_litert}
    return opened[path.suffix](path)(pixels.astype("float32"))["probabilities"]


@pytest.mark.parametrize(("name", "precision"), [*FORMATS, ("whole.tflite", "int8")])
def test_a_second_output_tells_strangers(exports: tuple, classifier: Classifier, name: str, precision: str) -> None:
    folder, files, found = exports
    opened = {"": runtimes.open_saved_model, ".onnx": runtimes.open_onnx, ".tflite": runtimes.open_litert}
    path, pixels = folder / name, read_images(files, SIZE)[0].astype("float32")
    said, (_, expected) = opened[path.suffix](path)(pixels), classifier.predict(files, strangers=True)
    assert set(said) == {"probabilities", "stranger"} and np.ptp(expected) > 1
    if precision != "int8":
        tolerance = 1e-3 if precision == "float32" else 0.05
        np.testing.assert_allclose(said["stranger"], expected, rtol=tolerance, atol=tolerance)
    assert found[name].same_stranger >= (1 if precision == "float32" else 0.8)
    inside = runtimes.read_metadata(path)
    assert inside["stranger_above"] == 1 and "above 1" in inside["stranger"]
    if precision == "int8":
        halves = f"Compared on {len(files) // 2} of {len(files)} images (its value ranges are from the others), "
        assert halves in str(found[name])
    if path.suffix == ".tflite":  # by number, as small programs do
        from ai_edge_litert.interpreter import Interpreter

        first, second = Interpreter(str(path)).get_output_details()
        assert (len(first["shape"]), len(second["shape"])) == (2, 1)


def test_an_export_may_have_one_output(classifier: Classifier, tmp_path: Path) -> None:
    pictures = [np.asarray(picture(seed)) for seed in range(4)]
    found = module.export(classifier, tmp_path / "one.onnx", pictures=pictures, strangers=False)
    said = runtimes.open_onnx(tmp_path / "one.onnx")(np.zeros((1, SIZE, SIZE, 3), "float32"))
    assert list(said) == ["probabilities"] and found.same_stranger is None
    assert "stranger" not in runtimes.read_metadata(tmp_path / "one.onnx")


@pytest.mark.parametrize(("name", "precision"), FORMATS)
def test_every_runtime_says_what_the_classifier_says_of_a_file(
    exports: tuple, classifier: Classifier, name: str, precision: str
) -> None:
    folder, files, found = exports
    said, expected = ask(folder / name, read_images(files, SIZE)[0]), classifier.predict(files)
    assert np.ptp(expected, axis=0).max() > 0.05  # the images have different predictions
    np.testing.assert_allclose(said, expected, atol=TOLERANCE[precision])
    result = found[name]
    assert result.images == len(files) and result.largest_difference <= TOLERANCE[precision]
    assert result.accuracy == 1 and result.same_label == result.exported_accuracy
    assert result.same_label >= (1 if precision == "float32" else 0.9)
    assert f"Compared on {len(files)} images" in str(result)
    assert json.loads(json.dumps(result.to_dict()))["precision"] == precision
    size = sum(file.stat().st_size for file in [folder / name, *(folder / name).rglob("*")] if file.is_file())
    assert result.size == size


def test_a_saved_model_takes_files(exports: tuple, classifier: Classifier) -> None:
    """As TensorFlow Serving passes them: strings of bytes, several at once, decoded by its own graph."""
    folder, files, found = exports
    assert found["model"].files >= 20
    loaded = tf.saved_model.load(str(folder / "model"))
    answer = loaded.signatures["serve_bytes"](image_bytes=tf.constant([file.read_bytes() for file in files]))
    expected = classifier.predict(files)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)
    labels = [label.decode() for label in answer["label"].numpy()]
    assert labels == [classifier.class_names[c] for c in expected.argmax(axis=1)]


def test_whole_numbers_say_what_they_cost(exports: tuple, classifier: Classifier) -> None:
    folder, files, found = exports
    result = found["whole.tflite"]
    assert result.images == len(files) // 2  # the others gave the ranges of its numbers
    said = ask(folder / "whole.tflite", read_images(files, SIZE)[0])
    same = said.argmax(axis=1) == classifier.predict(files).argmax(axis=1)
    assert result.accuracy == 1 and result.exported_accuracy == result.same_label == same[1::2].mean()
    assert f"Accuracy 1.000 before, {result.exported_accuracy:.3f} after." in str(result)
    assert result.size < found["model.tflite"].size / 2
    assert 0 < np.abs(said - classifier.predict(files)).max() < 0.3  # the head computes in floats
    light = found["light.tflite"]
    assert light.size < found["model.tflite"].size / 2 and light.same_label >= 0.8


def test_class_names_and_preprocessing_travel_inside(exports: tuple, classifier: Classifier) -> None:
    folder = exports[0]
    for name, precision in [*FORMATS, ("whole.tflite", "int8")]:
        inside = runtimes.read_metadata(folder / name)
        assert tuple(inside["class_names"]) == classifier.class_names
        assert (inside["image_size"], inside["precision"]) == (SIZE, precision)
        assert inside["resize"] == classifier.description.resize and "RGB in 0..255" in inside["input"]
    with zipfile.ZipFile(folder / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().split("\n") == list(classifier.class_names)


def test_metadata_that_is_damaged_is_named(exports: tuple, tmp_path: Path) -> None:
    """An export is a file from outside like any other."""
    inside = runtimes.read_metadata(exports[0] / "model.tflite")
    for text, told in (
        (json.dumps(inside | {"class_names": "abc"}), "'abc' in class_names"),
        (json.dumps({name: inside[name] for name in inside if name != "input"}), "lacks input"),
        ("[" * 50_000 + "]" * 50_000, "nested"),
        (None, r"holds no vggft\.json"),
    ):
        with zipfile.ZipFile(tmp_path / "odd.tflite", "w") as archive:
            archive.writestr("labels.txt" if text is None else "vggft.json", text or "a")
        with pytest.raises(vggft.ExportError, match=rf"odd\.tflite .*{told}"):
            runtimes.read_metadata(tmp_path / "odd.tflite")
    (tmp_path / "odd.onnx").write_bytes(b"hello")
    for path, told in (
        ("odd.onnx", "cannot be read as ONNX"),
        ("gone.tflite", "cannot be read"),
        ("", "vggft.json"),
    ):
        with pytest.raises(vggft.ExportError, match=told):
            runtimes.read_metadata(tmp_path / path)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_stranger_who_follows_the_steps_has_the_very_pixels(resize: str) -> None:
    """By plain Pillow, with nothing of ours but the sentences that lie in an export."""
    width, height = 48, 32
    description = Description.with_reading(Reading((height, width), resize), class_names=("a", "b"), width=1 / 16)
    steps = " ".join(runtimes.metadata(description, "float32")["preprocessing"])
    for name, data in every_kind().items():
        if "16 bits" in name:
            continue
        image = Image.open(io.BytesIO(data))
        if found := re.search(r"image.draft\('RGB', \((\d+), (\d+)\)\)", steps):
            least = tuple(map(int, found.groups()))
            turned = image.getexif().get(0x0112, 1) >= 5
            image.draft("RGB", least[::-1] if turned else least)
        assert "upright by its EXIF orientation" in steps and "transparent on white" in steps
        image = ImageOps.exif_transpose(image)
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
        assert (resize == "crop") == ("the largest part in the middle" in steps)
        assert (resize == "pad") == ("a black frame of 48 x 32" in steps)
        assert (runtimes.ROUNDED in steps) == (resize != "squash")
        size, place = (width, height), (0, 0)
        if resize == "crop":
            wide = min(image.width, int(image.height * width / height + 0.5))
            high = min(image.height, int(image.width * height / width + 0.5))
            left, top = (image.width - wide) // 2, (image.height - high) // 2
            image = image.crop((left, top, left + wide, top + high))
        if resize == "pad":
            scale = min(width / image.width, height / image.height)
            size = (int(image.width * scale + 0.5), int(image.height * scale + 0.5))
            place = ((width - size[0]) // 2, (height - size[1]) // 2)
        assert "Resize to 48 x 32 px" in steps and "Image.Resampling.BILINEAR" in steps
        frame = Image.new("RGB", (width, height))
        frame.paste(image.resize(size, Image.Resampling.BILINEAR), place)
        np.testing.assert_array_equal(np.asarray(frame), read_image(data, description.reading).pixels, name)


@pytest.mark.slow
def test_200_real_images(shared_data: Path, tmp_path: Path, classifier: Classifier, exports: tuple) -> None:
    """From files: photographs rotated by EXIF, and others made grey or partly transparent."""
    files = sorted((shared_data / "exif").glob("*.jpg"))
    files += sorted((shared_data / "sign_digits").rglob("*.JPG"))[::20][:100]
    for i, file in enumerate(sorted((shared_data / "eurosat").rglob("*.jpg"))[::30][:90]):
        image = Image.open(file).convert(["L", "RGBA", "RGB"][i % 3])
        if image.mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / f"{i}.{'jpg' if i % 2 and image.mode != 'RGBA' else 'png'}")
    files += sorted(tmp_path.glob("*.*"))
    assert len(files) >= 200
    expected = classifier.predict(files)
    for name, precision in FORMATS:
        said = ask(exports[0] / name, read_images(files, SIZE)[0])
        difference = float(np.abs(said - expected).max())
        assert difference <= TOLERANCE[precision], name
        print(f"{name} in {precision}: {difference:.2g}")
    answers = runtimes.saved_model_of_files(exports[0] / "model", files)
    np.testing.assert_allclose(np.stack(answers), expected, atol=1e-4)


@pytest.mark.slow
def test_what_a_saved_model_cannot_decode_is_left_out_whatever_it_is_called(
    classifier: Classifier, tmp_path: Path
) -> None:
    for name, format in {"right.jpg": "JPEG", "webp.jpg": "WEBP", "gif.png": "GIF"}.items():
        picture().save(tmp_path / name, format)
    files = [tmp_path / name for name in ("right.jpg", "webp.jpg", "gif.png")]
    found = module.export(classifier, tmp_path / "model", pictures=files)
    assert (found.images, found.files) == (3, 1)


def test_a_graph_that_decodes_nothing_is_not_written(classifier: Classifier, tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(vggft.ExportError, match="its graph could decode none of 1 files"):
        module.export(classifier, tmp_path / "model", pictures=[tmp_path / "print.jpg"])
    assert [each.name for each in tmp_path.iterdir()] == ["print.jpg"]


@pytest.mark.slow
def test_whole_numbers_are_calibrated_on_every_class(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are often sorted by class; here 600 of them are sorted by brightness."""
    seen: list[np.ndarray] = []
    write = runtimes.write_litert
    monkeypatch.setattr(runtimes, "write_litert", lambda *rest: (seen.append(rest[-1]), write(*rest))[1])
    pictures = np.arange(600, dtype="float32")[:, None, None, None] * (255 / 599) + np.zeros((1, SIZE, SIZE, 3), "f4")
    with pytest.raises(vggft.ExportError, match=r"% of 500 images have another class in int8; at most 1.0% may"):
        module.export(classifier, tmp_path / "a.tflite", pictures=pictures, precision="int8", max_changed=0.01)
    assert len(seen[0]) == 100 and seen[0].min() < 5 and seen[0].max() > 250
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_earlier_folder_outlives_a_replacement_that_fails(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> module.Export:
        how = {"pictures": [np.asarray(picture())], "overwrite": True}
        return module.export(classifier, tmp_path / "model", **how)

    again()
    replace = module.os.replace

    def failing(source: Path, target: Path) -> None:
        if (source / "assets.extra").exists() and Path(target).name == "model" and "earlier" not in source.name:
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        again()
    assert (tmp_path / "model" / "saved_model.pb").exists() and [each.name for each in tmp_path.iterdir()] == ["model"]
    monkeypatch.undo()
    again()
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_an_export_decides_as_the_classifier_does(tmp_path: Path) -> None:
    """By the operating point of two classes, and by the thresholds of several labels."""
    files = []
    for n in range(6):
        picture(n).save(tmp_path / f"{n}.png")
        files.append(tmp_path / f"{n}.png")
    description = Description(("healthy", "ill"), SIZE, width=1 / 16)
    network = build(description)
    said = network.predict(read_images(files, SIZE)[0].astype("float32"), verbose=0)
    rare = int(said.mean(axis=0).argmin())  # the less probable class, which the point prefers
    description = replace(description, thresholds=(0.1, 0.9) if rare == 0 else (0.9, 0.1))
    two = Classifier(network, description)
    assert (said.argmax(axis=1) != rare).any()
    result = two.export(tmp_path / "saved", dataset=(files, np.full(6, rare)))
    assert result.same_label == result.accuracy == result.exported_accuracy == 1
    signature = tf.saved_model.load(str(tmp_path / "saved")).signatures["serve_bytes"]
    labels = signature(image_bytes=tf.constant([file.read_bytes() for file in files]))["label"].numpy()
    assert (
        {each.decode() for each in labels} == {each.label for each in two.classify(files)} == {("healthy", "ill")[rare]}
    )

    before, after = np.array([[0.9, 0.45]]), np.array([[0.9, 0.55]])
    several = replace(description, multi_label=True, thresholds=(0.5, 0.5))
    how: tuple[Any, ...] = (tmp_path, "ONNX", "float32", several, before, after)
    assert module._compare(*how, None).same_label == 0
    assert module._compare(*how, np.array([[1, 1]])).accuracy == 0.5


def test_what_says_something_else_is_not_written(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed conversion: the runtime gets another network."""
    other = build(classifier.description, seed=2)
    write, wrong = runtimes.write_onnx, runtimes.outputs_of(other, classifier.trust.strangers)
    monkeypatch.setattr(runtimes, "write_onnx", lambda model, *rest: write(wrong, *rest))
    with pytest.raises(
        vggft.ExportError, match=r"was not written: reloaded by ONNX, its probabilities differ by up to \d"
    ):
        module.export(classifier, tmp_path / "wrong.onnx", pictures=[np.asarray(picture())])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said_before_the_work(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, **how: Any) -> pytest.ExceptionInfo[Exception]:
        arguments = {"pictures": [np.asarray(picture())]} | how
        with pytest.raises(vggft.VggftError) as caught:
            module.export(classifier, tmp_path / name, **arguments)
        return caught

    assert "ends in .onnx or .tflite (LiteRT), or has no suffix" in str(refused("model.pb").value)
    assert "precision of ONNX must be one of float32; got 'int8'" in str(refused("a.onnx", precision="int8").value)
    assert "int8 needs at least two images" in str(refused("a.tflite", precision="int8").value)
    assert "labels: expected one for each of 1 images; got 2" in str(refused("a.onnx", labels=np.arange(2)).value)
    assert "gone.jpg does not exist" in str(refused("a.onnx", pictures=[tmp_path / "gone.jpg"]).value)
    (tmp_path / "mine.onnx").write_bytes(b"precious")
    assert "mine.onnx exists already; overwrite=True (--force)" in str(refused("mine.onnx").value)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "mine is a folder with other things in it (thesis.txt), so it is not replaced" in str(
        refused("mine", overwrite=True).value
    )
    for package, needs in {"onnxruntime": "tf2onnx onnxruntime onnx", "ai_edge_litert": "ai-edge-litert"}.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            name = "a.onnx" if package == "onnxruntime" else "a.tflite"
            assert f"needs {package.replace('_', '-')}: pip install {needs} (the" in str(refused(name).value)
    assert (tmp_path / "mine.onnx").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.onnx"]


@pytest.mark.slow
def test_the_classifier_finds_images_to_compare_on(
    classifier: Classifier, exports: tuple, tmp_path: Path, stripes: tuple, tiny_weights: Path
) -> None:
    """Those of its evaluation, as files or from the run; otherwise it asks for some."""
    with pytest.raises(vggft.ConfigError, match="pass labelled images as dataset"):
        classifier.export(tmp_path / "model.onnx")
    labels = np.arange(3)[:, None].repeat(4, 1).ravel()
    given = classifier.export(tmp_path / "model.onnx", dataset=(stripes[0][:12], labels))
    assert (given.images, given.exported_accuracy) == (12, given.accuracy)
    stream = tf.data.Dataset.from_tensor_slices((stripes[0][:12], labels)).batch(5)
    streamed = classifier.export(tmp_path / "model.onnx", dataset=stream, overwrite=True)
    assert (streamed.images, streamed.accuracy) == (12, given.accuracy)
    settings = {"backbone": tiny_weights, "image_size": 32, "training": vggft.Training(epochs=2), "verbose": 0}
    trained = vggft.finetune(stripes, 3, **settings)
    found = trained.export(tmp_path / "trained")
    assert found.images == 24 and found.accuracy is not None
    again = trained.export(tmp_path / "trained", overwrite=True)
    assert again.size == pytest.approx(found.size, rel=0.01) and (tmp_path / "trained" / "saved_model.pb").exists()
