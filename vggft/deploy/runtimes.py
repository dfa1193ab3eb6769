"""Write and run a classifier in each export format: SavedModel, ONNX, LiteRT."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Required

import keras
import numpy as np
import tensorflow as tf

from ..artifact.archive import MEMBER
from ..errors import ExportError
from ..fields import as_path
from ..files.archives import open_archive
from ..files.documents import DocumentError, parse_document, read_document, reading
from ..network.description import Described, Description
from ..pictures.reading import draft_size
from ..trust.strangers import SHARE, Strangers
from .savedmodel_decoder import decode

ROUNDED = "in whole pixels, halves up; of an odd rest the larger part lies right or below"
SAVED_MODEL = ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra")  # what is in its folder

Outputs = dict[str, np.ndarray]  # "probabilities", (N, num_classes); and "stranger", (N,), if that is known
Runtime = Callable[[np.ndarray], Outputs]  # of (N, height, width, 3) float32
STRANGER = (
    "(B,) float32 distance from the images of the classes: 0 is usual, above 1 the image is probably of none of the "
    "classes; {share:.0%} of the images of the classes themselves are above 1"
)


def outputs_of(model: keras.Model, strangers: Strangers | None) -> keras.Model:
    """Return a model with named outputs, `probabilities` and, if strangers are known, `stranger`."""
    if strangers is None:
        return keras.Model(model.input, {"probabilities": model.output})
    maps = [model.get_layer(f"{block}_pool").output for block in strangers.blocks]
    averages = [keras.ops.mean(each, axis=(1, 2)) for each in maps]
    far = strangers.distances(averages[0] if len(averages) == 1 else keras.ops.concatenate(averages, axis=1))
    return keras.Model(model.input, {"probabilities": model.output, "stranger": far})


def metadata(description: Description, precision: str, strangers: Strangers | None = None) -> dict[str, Any]:
    """Return the metadata inside every export: class names, how images have to be prepared, and what comes out."""
    height, width = description.size
    more = {} if strangers is None else {"stranger": STRANGER.format(share=SHARE), "stranger_above": 1.0}
    return (
        description.to_dict()
        | more
        | {
            "precision": precision,
            "value_range": description.value_range,
            "input": f"(B, {height}, {width}, 3) float32, RGB in 0..255, upright, {description.prepares()}",
            "preprocessing": steps_of(description),
            "output": f"(B, {len(description.class_names)}) float32 probabilities, in the order of class_names",
        }
    )


def steps_of(description: Description) -> list[str]:
    """Say step by step how a file becomes the pixels that an export takes, for whoever has only the export."""
    reading, (height, width) = description.reading, description.size
    steps = ["Decode the file to RGB; a grey value is red, green and blue; CMYK is converted by its inverse."]
    if least := draft_size(reading):
        steps.append(
            f"A JPEG whose width (upright) is at least 2, 4 or 8 times {least[0]} px and whose height is as many times "
            f"{least[1]} px is decoded at a half, a quarter or an eighth of its size, as libjpeg does; in Pillow: "
            f"image.draft('RGB', {least})."
        )
    steps.append("Turn it upright by its EXIF orientation.")
    if reading.bands is None:
        steps.append("Lay what is transparent on white, by its alpha channel.")
    black, white = reading.integers or (0, "the least of 255, 1023, 4095, 16383 and 65535 that holds all values")
    steps.append(f"Values of more than 8 bits: {black:g} is black (0) and {white} is white (255); round to integers.")
    if reading.resize == "crop":
        steps.append(f"Cut out the largest part in the middle with the proportions of {width} x {height}, {ROUNDED}.")
    steps.append(
        f"Resize to {width} x {height} px (width x height)"
        + (f" at most, with its proportions ({ROUNDED})," if reading.resize == "pad" else "")
        + " by the bilinear filter with antialiasing, and round to integers; in Pillow: "
        "image.resize(size, Image.Resampling.BILINEAR)."
    )
    if reading.resize == "pad":
        steps.append(f"Put it in the middle of a black frame of {width} x {height} px.")
    return [*steps, "Pass the values 0..255 as float32, as they are: the network subtracts its own means."]


class Metadata(Described):
    """The metadata inside an export, as `metadata` makes it."""

    precision: Required[str]
    input: Required[str]
    output: Required[str]
    preprocessing: NotRequired[list[str]]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata of an export of any format.

    Raises:
        ExportError: it is no export of vggft, or is damaged; the message names the file and the field.
    """
    path = as_path(path)
    if path.is_dir():
        return dict(read_document(path / "assets.extra" / MEMBER, Metadata, ExportError))
    with reading(path, ExportError) as file:
        if path.suffix.lower() == ".onnx":
            text: bytes | str = _of_onnx(path)
        else:
            with open_archive(file) as archive:
                text = archive.read(MEMBER) if MEMBER in archive.namelist() else b""
        if not text:
            raise DocumentError(f"holds no {MEMBER}: it is no export of vggft")
        return dict(parse_document(text, Metadata))


def _of_onnx(path: Path) -> str:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds, which are none of Python's
        raise DocumentError(f"cannot be read as ONNX: {error}") from error
    return str(session.get_modelmeta().custom_metadata_map.get("vggft", ""))


def write_saved_model(model: keras.Model, description: Description, inside: dict[str, Any], folder: Path) -> None:
    """Write a SavedModel with the signatures `serving_default` for pixels and `serve_bytes` for JPEG and PNG files."""
    (height, width), names = description.size, tf.constant(description.class_names)
    cuts = tf.constant(description.cuts, tf.float32)
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]

    @tf.function(input_signature=[tf.TensorSpec((None, height, width, 3), tf.float32, name="image")], autograph=False)  # type: ignore[untyped-decorator]
    def pixels(image: Any) -> dict[str, Any]:
        return dict(model(image, training=False))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)  # type: ignore[untyped-decorator]
    def files(image_bytes: Any) -> dict[str, Any]:
        decoded = tf.map_fn(
            lambda data: decode(data, description.reading),
            image_bytes,
            fn_output_signature=tf.TensorSpec((height, width, 3), tf.float32),
        )
        found = dict(model(decoded, training=False))
        return found | {"label": tf.gather(names, tf.argmax(found["probabilities"] - cuts, axis=1))}

    tf.saved_model.save(module, str(folder), {"serving_default": pixels, "serve_bytes": files})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / MEMBER).write_text(json.dumps(inside, indent=2, ensure_ascii=False), encoding="utf-8")


def open_saved_model(folder: Path) -> Runtime:
    """Load a SavedModel as a function of pixels."""
    loaded = tf.saved_model.load(str(folder))  # must stay alive as long as its signatures
    signature = loaded.signatures["serving_default"]

    def run(pixels: np.ndarray) -> Outputs:
        assert loaded is not None
        return _joined([signature(image=tf.constant(part)) for part in _batches(pixels)])

    return run


def saved_model_of_files(folder: Path, files: Sequence[Path]) -> list[np.ndarray | None]:
    """Run `serve_bytes` on files: (num_classes,) probabilities each, or None if the graph cannot decode the file."""
    loaded = tf.saved_model.load(str(folder))
    found: list[np.ndarray | None] = []
    for file in files:
        try:
            answer = loaded.signatures["serve_bytes"](image_bytes=tf.constant([file.read_bytes()]))
            found.append(answer["probabilities"].numpy()[0])
        except tf.errors.InvalidArgumentError:  # CMYK, or another format
            found.append(None)
    return found


def write_onnx(model: keras.Model, description: Description, inside: dict[str, Any], path: Path) -> None:
    """Write by tf2onnx: input `image`, outputs `probabilities` and maybe `stranger`, any batch size."""
    import onnx
    import tf2onnx

    signature = [tf.TensorSpec((None, *description.size, 3), tf.float32, name="image")]
    function = tf.function(lambda image: dict(model(image, training=False)), input_signature=signature, autograph=False)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(
        proto, {"vggft": json.dumps(inside), "class_names": json.dumps(description.class_names)}
    )
    onnx.save_model(proto, path)


def open_onnx(path: Path) -> Runtime:
    """Load by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(pixels: np.ndarray) -> Outputs:
        found = [session.run(None, {"image": part}) for part in _batches(pixels)]
        return _joined([dict(zip(names, each, strict=True)) for each in found])

    return run


def write_litert(
    model: keras.Model, description: Description, inside: dict[str, Any], path: Path, precision: str, pixels: np.ndarray
) -> None:
    """Write by TensorFlow's converter; the metadata is appended as a zip, the convention for such files.

    Args:
        model, description, inside, path: as for the other formats.
        precision: `"float32"`; `"float16"` or `"dynamic"` for weights of 16 or 8 bits; or `"int8"` for blocks that
            compute with integers of 8 bits. Pooling and head compute in float32: with integers, square roots and
            lengths of features turned 30 to 50 % of the labels of hand signs.
        pixels: (N, height, width, 3) images that int8 is calibrated on.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, description, inside, Path(folder) / "model")
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(Path(folder) / "model"), signature_keys=["serving_default"]
        )
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,
            ]
            content = _blocks_in_integers(converter, pixels)
        else:
            content = converter.convert()
        path.write_bytes(_probabilities_first(content))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(description.class_names))
        archive.writestr(MEMBER, json.dumps(inside, ensure_ascii=False))


def _blocks_in_integers(converter: Any, pixels: np.ndarray) -> bytes:
    """Convert with integers of 8 bits in the operations of the blocks, each channel with its own scale."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    converter.representative_dataset = lambda: ([each[None].astype("float32")] for each in pixels)
    others = [name for name in vars(BuiltinOperator) if name.isupper() and name not in ("CONV_2D", "MAX_POOL_2D")]
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=others)
    # Only this class of the converter can leave operations out.
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
    return bytes(debugger.get_nondebug_quantized_model())


def _probabilities_first(content: bytes) -> bytes:
    """Make the probabilities output 0, for programs that take outputs by number; the converter may not."""
    from ai_edge_litert.schema_py_generated import Model

    buffer = bytearray(content)
    model = Model.GetRootAs(buffer, 0)
    signature, outputs = model.SignatureDefs(0), model.Subgraphs(0).OutputsAsNumpy()  # a view of the buffer
    named = {each.Name(): each.TensorIndex() for each in map(signature.Outputs, range(signature.OutputsLength()))}
    outputs[:] = sorted(outputs.tolist(), key=lambda index: index != named[b"probabilities"])
    return bytes(buffer)


def open_litert(path: Path) -> Runtime:
    """Load by the LiteRT interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    return lambda pixels: _joined([runner(image=part) for part in _batches(pixels)])


def _joined(parts: Sequence[Mapping[str, Any]]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Split into batches of 16; the last one may be smaller, so a runtime with a fixed batch size would fail."""
    return (pixels[start : start + 16] for start in range(0, len(pixels), 16))
