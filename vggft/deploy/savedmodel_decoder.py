"""Decode JPEG and PNG files in a TensorFlow graph, to exactly the pixels that `data.reading.read_image` returns.

This lets a SavedModel accept files without Python. Everything follows Pillow down to its integer rounding:
the reduced scale at which a large JPEG is decoded, EXIF orientation, transparency on white, and resizing.
"""

from __future__ import annotations

from typing import Any

import PIL
import tensorflow as tf

from ..data.reading import BOMB_PIXELS, DRAFT_FACTOR, MIN_SIDE

PRECISION = 22  # bits of Pillow's fixed-point weights
# From version 13 on, Pillow resizes the height first if that saves more work; as it rounds in between, order matters.
TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF tag


def decode(data: Any, image_size: int) -> Any:
    """Decode a JPEG or PNG file to (S, S, 3) float32 RGB in 0..255, upright and squashed to a square.

    Args:
        data: the bytes of the file, a scalar string tensor.
        image_size: side in pixels, S.

    Raises:
        tf.errors.InvalidArgumentError: another format, CMYK, less than 32 px per side, or a decompression bomb.
    """
    is_jpeg, is_png = tf.strings.substr(data, 0, 3) == JPEG, tf.strings.substr(data, 0, 8) == PNG
    # The message has the number of bytes only, since TensorFlow cannot print the bytes themselves.
    expected = ["expected the bytes of a JPEG or PNG file; number of bytes received:", tf.strings.length(data)]
    known = tf.debugging.Assert(is_jpeg | is_png, expected)
    with tf.control_dependencies([known]):
        image, orientation = tf.cond(is_jpeg, lambda: _jpeg(data, image_size), lambda: _png(data))
    image = _upright(image, orientation)
    return tf.ensure_shape(tf.cast(resize(image, image_size), "float32"), (image_size, image_size, 3))


def resize(image: Any, image_size: int) -> Any:
    """Resize (H, W, 3) integers to (S, S, 3) integers as float64, by Pillow's antialiasing bilinear filter."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]

    def across(image: Any) -> Any:
        return _rounded(tf.einsum("hwc,sw->hsc", image, _weights(width, image_size)))

    def down(image: Any) -> Any:
        return _rounded(tf.einsum("hwc,sh->swc", image, _weights(height, image_size)))

    image = tf.cast(image, "float64")
    down_first = tf.nn.relu(height - image_size) > 2 * tf.nn.relu(width - image_size)
    return tf.cond(TALL_FIRST & down_first, lambda: across(down(image)), lambda: down(across(image)))


def _weights(size: Any, image_size: int) -> Any:
    """Compute the (S, size) float64 weights of the pixels of a line in each new pixel, in units of 2 ** -22."""
    size = tf.cast(size, "float64")
    scale = size / image_size
    widened = tf.maximum(scale, tf.ones_like(scale))
    centre = (tf.range(image_size, dtype="float64") + 0.5) * scale
    distance = tf.abs(tf.range(size, dtype="float64")[None] + 0.5 - centre[:, None])
    weights = tf.nn.relu(1 - distance / widened)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(weights * 2**PRECISION + 0.5)


def _rounded(sums: Any) -> Any:
    return tf.clip_by_value(tf.floor((sums + 2 ** (PRECISION - 1)) / 2**PRECISION), 0, 255)


def _checked(height: Any, width: Any) -> list[Any]:
    side, pixels = tf.minimum(height, width), tf.cast(height, "int64") * tf.cast(width, "int64")
    return [
        tf.debugging.Assert(side >= MIN_SIDE, [f"expected at least {MIN_SIDE} px per side; received", width, height]),
        tf.debugging.Assert(pixels <= BOMB_PIXELS, [f"expected at most {BOMB_PIXELS} pixels; received", width, height]),
    ]


def _jpeg(data: Any, image_size: int) -> tuple[Any, Any]:
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(data))
    colours = tf.debugging.Assert(channels != 4, ["a JPEG in CMYK cannot be decoded here: save it in RGB"])
    with tf.control_dependencies([*_checked(height, width), colours]):
        larger = tf.minimum(width, height) // (DRAFT_FACTOR * image_size)
    ratios = (1, 2, 4, 8)

    def at(ratio: int) -> Any:
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    index = tf.reduce_sum(tf.cast(larger >= tf.constant(ratios[1:]), "int32"))
    raw = _raw(data)
    return tf.switch_case(index, [at(ratio) for ratio in ratios]), _orientation(raw, _segment(raw))


def _png(data: Any) -> tuple[Any, Any]:
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 10), "uint8"), "int32")
    powers = tf.constant([2**24, 2**16, 2**8, 1])
    width, height = tf.reduce_sum(header[:4] * powers), tf.reduce_sum(header[4:8] * powers)
    bits, grey = header[8], header[9] == 0
    raw = _raw(data)
    clear = _chunk(raw, b"tRNS") >= 0

    def eight_bits() -> Any:
        image = tf.cast(tf.io.decode_png(data, channels=4), "int32")
        colour, alpha = image[..., :3], image[..., 3:]
        # If nothing is transparent, alpha has the bit depth of the file.
        opaque = ~clear & tf.reduce_all(alpha == 2**bits - 1)
        return _on_white(colour, tf.where(opaque, 255, alpha))

    with tf.control_dependencies(_checked(height, width)):
        image = tf.cond(grey & (bits == 16), lambda: _grey16(data), eight_bits)
    return image, _orientation(raw, _chunk(raw, b"eXIf"))


def _grey16(data: Any) -> Any:
    grey = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), "float64")
    return tf.tile(tf.cast(tf.round(grey * (255 / 65535)), "uint8"), (1, 1, 3))


def _on_white(colour: Any, alpha: Any) -> Any:
    """Composite (H, W, 3) with alpha (H, W, 1) on white, by the integer arithmetic of Pillow's `alpha_composite`."""
    total = colour * alpha * 128 + 255 * 128 * (255 - alpha) + 128 * 128
    return tf.cast((total // 256 + total) // 256 // 128, "uint8")


def _number(raw: Any, at: Any, count: int, little: Any = False) -> Any:
    """Read an unsigned integer of `count` bytes at `at`, big-endian unless `little`; 0 beyond the end of the file."""
    each = [tf.gather(raw, tf.clip_by_value(at + i, 0, tf.size(raw) - 1)) for i in range(count)]
    forward = tf.add_n([byte * 256**i for i, byte in enumerate(each)])
    return tf.where(little, forward, tf.add_n([byte * 256 ** (count - 1 - i) for i, byte in enumerate(each)]))


def _raw(data: Any) -> Any:
    """Return the bytes of a file as int32, padded with zeros."""
    return tf.concat([tf.cast(tf.io.decode_raw(data, "uint8"), "int32"), tf.zeros(16, "int32")], axis=0)


def _is(raw: Any, at: Any, mark: bytes) -> Any:
    return tf.reduce_all(tf.stack([_number(raw, at + i, 1) == byte for i, byte in enumerate([*mark])]))


def _segment(raw: Any) -> Any:
    """Find the offset of the EXIF data of a JPEG, or -1, segment by segment, so that comments do not mislead it."""

    def goes_on(at: Any, found: Any) -> Any:
        marker = _number(raw, at + 1, 1)
        return (found < 0) & (at < tf.size(raw) - 16) & _is(raw, at, b"\xff") & (marker != 0xDA) & (marker != 0xD9)

    def step(at: Any, found: Any) -> tuple[Any, Any]:
        filler = _number(raw, at + 1, 1) == 0xFF
        found = tf.where(_is(raw, at, b"\xff\xe1") & _is(raw, at + 4, b"Exif\0\0"), at + 4, found)
        return at + tf.where(filler, 1, 2 + tf.maximum(_number(raw, at + 2, 2), 2)), found

    return tf.while_loop(goes_on, step, (tf.constant(2), tf.constant(-1)))[1]


def _chunk(raw: Any, mark: bytes) -> Any:
    """Find the offset of the content of a PNG chunk, or -1."""

    def goes_on(at: Any, found: Any) -> Any:
        return (found < 0) & (at >= 0) & (at < tf.size(raw) - 16)

    def step(at: Any, found: Any) -> tuple[Any, Any]:
        length = _number(raw, at, 4)
        return tf.where(length < 0, -1, at + 12 + length), tf.where(_is(raw, at + 4, mark), at + 8, found)

    return tf.while_loop(goes_on, step, (tf.constant(8), tf.constant(-1)))[1]


def _orientation(raw: Any, start: Any) -> Any:
    """Read the EXIF orientation, 1 to 8, from the EXIF data at `start`; 1 if there is none."""
    there = start >= 0
    start = tf.where(there & _is(raw, start, b"Exif\0\0"), start + 6, start)  # of the TIFF header
    little = _is(raw, start, b"I")
    whole = there & (_number(raw, start + 2, 2, little) == 42)
    directory = start + _number(raw, start + 4, 4, little)
    entries = directory + 2 + 12 * tf.range(tf.minimum(_number(raw, directory, 2, little), 512))
    long = _number(raw, entries + 2, 2, little) == 4
    each = tf.where(long, _number(raw, entries + 8, 4, little), _number(raw, entries + 8, 2, little))
    values = tf.boolean_mask(each, _number(raw, entries, 2, little) == ORIENTATION)
    value = tf.concat([values, [1]], axis=0)[0]
    return tf.where(whole & (value >= 1) & (value <= 8), value, 1)


def _upright(image: Any, orientation: Any) -> Any:
    """Rotate and mirror (H, W, 3) by the EXIF orientation."""
    turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    turned = tf.cond(upside_down, lambda: turned[::-1], lambda: turned)
    return tf.cond(mirrored, lambda: turned[:, ::-1], lambda: turned)
