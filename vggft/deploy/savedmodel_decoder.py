"""Decode JPEG and PNG files in a TensorFlow graph, to exactly the pixels that `pictures.files.read_image` returns.

This lets a SavedModel accept files without Python. Everything follows Pillow down to its integer rounding:
the reduced scale at which a large JPEG is decoded, EXIF orientation, transparency on white, and resizing.
"""

from __future__ import annotations

from typing import Any

import PIL
import tensorflow as tf

from ..pictures.formats import BOMB_PIXELS
from ..pictures.ranges import INTEGERS
from ..pictures.reading import Reading, draft_size

PRECISION = 22  # bits of Pillow's fixed-point weights
# From version 13 on, Pillow resizes the height first if that saves more work; as it rounds in between, order matters.
TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF tag


def decode(data: Any, reading: Reading) -> Any:
    """Decode a JPEG or PNG file to (height, width, 3) float32 RGB in 0..255, upright, by the resize rule of a reading.

    Args:
        data: the bytes of the file, a scalar string tensor.
        reading: how the classifier reads pictures.

    Raises:
        tf.errors.InvalidArgumentError: another format, CMYK, values outside the range, or a decompression bomb.
    """
    assert reading.size is not None
    is_jpeg, is_png = tf.strings.substr(data, 0, 3) == JPEG, tf.strings.substr(data, 0, 8) == PNG
    # The message has the number of bytes only, since TensorFlow cannot print the bytes themselves.
    expected = ["expected the bytes of a JPEG or PNG file; number of bytes received:", tf.strings.length(data)]
    known = tf.debugging.Assert(is_jpeg | is_png, expected)
    with tf.control_dependencies([known]):
        image, orientation = tf.cond(is_jpeg, lambda: _jpeg(data, reading), lambda: _png(data, reading))
    image = fitted(_upright(image, orientation), reading)
    return tf.ensure_shape(tf.cast(image, "float32"), (*reading.size, 3))


def fitted(image: Any, reading: Reading) -> Any:
    """Fit (H, W, 3) integers to the size of a reading by its resize rule, as `pictures.reading.fit` does."""
    assert reading.size is not None
    high, wide = reading.size
    (left, top, right, bottom), (x, y, width, height) = _places(tf.shape(image)[0], tf.shape(image)[1], reading)
    image = resize(image[top:bottom, left:right], height, width)
    return tf.pad(image, [[y, high - y - height], [x, wide - x - width], [0, 0]])


def _places(height: Any, width: Any, reading: Reading) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Compute `pictures.reading.places` in the graph."""
    assert reading.size is not None
    high, wide = reading.size
    zero = tf.zeros_like(width)
    if reading.resize == "squash":
        return (zero, zero, width, height), (zero, zero, zero + wide, zero + high)
    too_wide, too_high = width * high > height * wide, width * high < height * wide

    def divided(number: Any, by: Any) -> Any:
        return tf.maximum((2 * number + by) // tf.maximum(2 * by, 1), 1)

    if reading.resize == "crop":
        across = tf.where(too_wide, divided(height * wide, zero + high), width)
        down = tf.where(too_high, divided(width * high, zero + wide), height)
        left, top = (width - across) // 2, (height - down) // 2
        return (left, top, left + across, top + down), (zero, zero, zero + wide, zero + high)
    across = tf.where(too_high, divided(width * high, height), wide)
    down = tf.where(too_wide, divided(height * wide, width), high)
    return (zero, zero, width, height), ((wide - across) // 2, (high - down) // 2, across, down)


def resize(image: Any, high: Any, wide: Any) -> Any:
    """Resize (H, W, 3) integers to (high, wide, 3) integers as float64, by Pillow's antialiasing bilinear filter."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]

    def across(image: Any) -> Any:
        return _rounded(tf.einsum("hwc,sw->hsc", image, _weights(width, wide)))

    def down(image: Any) -> Any:
        return _rounded(tf.einsum("hwc,sh->swc", image, _weights(height, high)))

    image = tf.cast(image, "float64")
    saves = (height - high, width - wide)
    down_first = tf.nn.relu(saves[0]) > 2 * tf.nn.relu(saves[1])
    return tf.cond(TALL_FIRST & down_first, lambda: across(down(image)), lambda: down(across(image)))


def _weights(size: Any, new: Any) -> Any:
    """Compute the (new, size) float64 weights of the pixels of a line in each new pixel, in units of 2 ** -22."""
    size, lines = tf.cast(size, "float64"), tf.cast(new, "float64")
    scale = size / lines
    widened = tf.maximum(scale, tf.ones_like(scale))
    centre = (tf.range(lines, dtype="float64") + 0.5) * scale
    distance = tf.abs(tf.range(size, dtype="float64")[None] + 0.5 - centre[:, None])
    weights = tf.nn.relu(1 - distance / widened)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(weights * 2**PRECISION + 0.5)


def _rounded(sums: Any) -> Any:
    return tf.clip_by_value(tf.floor((sums + 2 ** (PRECISION - 1)) / 2**PRECISION), 0, 255)


def _checked(height: Any, width: Any) -> list[Any]:
    pixels = tf.cast(height, "int64") * tf.cast(width, "int64")
    return [
        tf.debugging.Assert(pixels <= BOMB_PIXELS, [f"expected at most {BOMB_PIXELS} pixels; received", width, height]),
    ]


def _jpeg(data: Any, reading: Reading) -> tuple[Any, Any]:
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(data))
    colours = tf.debugging.Assert(channels != 4, ["a JPEG in CMYK cannot be decoded here: save it in RGB"])
    raw = _raw(data)
    with tf.control_dependencies([*_checked(height, width), colours]):
        orientation = _orientation(raw, _segment(raw))
        high, wide = tf.where(orientation >= 5, width, height), tf.where(orientation >= 5, height, width)
        least = draft_size(reading) or (BOMB_PIXELS, BOMB_PIXELS)
        larger = tf.minimum(wide // least[0], high // least[1])
    ratios = (1, 2, 4, 8)

    def at(ratio: int) -> Any:
        def decoded() -> Any:
            image = tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
            return image if reading.bands is None else tf.gather(image, reading.bands, axis=2)

        return decoded

    index = tf.reduce_sum(tf.cast(larger >= tf.constant(ratios[1:]), "int32"))
    return tf.switch_case(index, [at(ratio) for ratio in ratios]), orientation


def _png(data: Any, reading: Reading) -> tuple[Any, Any]:
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 10), "uint8"), "int32")
    powers = tf.constant([2**24, 2**16, 2**8, 1])
    width, height = tf.reduce_sum(header[:4] * powers), tf.reduce_sum(header[4:8] * powers)
    bits, grey = header[8], header[9] == 0
    has_alpha = header[9] >= 4
    raw = _raw(data)
    clear = _chunk(raw, b"tRNS") >= 0

    def eight_bits() -> Any:
        image = tf.cast(tf.io.decode_png(data, channels=4), "int32")
        if reading.bands is not None:
            return tf.cast(tf.gather(image, reading.bands, axis=2), "uint8")
        colour, alpha = image[..., :3], image[..., 3:]
        # If nothing is transparent, alpha has the bit depth of the file.
        opaque = ~clear & tf.reduce_all(alpha == 2**bits - 1)
        return _on_white(colour, tf.where(opaque, 255, alpha))

    with tf.control_dependencies(_checked(height, width)):
        deep = (bits == 16) & (grey | ~clear)
        image = tf.cond(deep, lambda: _deep(data, has_alpha, reading), eight_bits)
    return image, _orientation(raw, _chunk(raw, b"eXIf"))


def _deep(data: Any, has_alpha: Any, reading: Reading) -> Any:
    """Read 16 bits by the range of the reading: (H, W, 3) uint8."""
    image = tf.cast(tf.io.decode_png(data, channels=4, dtype=tf.uint16), "float64")
    if reading.bands is not None:
        image, has_alpha = tf.gather(image, (*reading.bands, 3), axis=2), tf.constant(False)
    colour, alpha = image[..., :3], image[..., 3:] / 65535
    most = tf.reduce_max(colour)
    tops = tf.constant(INTEGERS, "float64")
    low, high = reading.integers or (0.0, tf.reduce_min(tf.boolean_mask(tops, tops >= most)))
    fits = tf.constant(True) if reading.clips else (tf.reduce_min(colour) >= low) & (most <= high)
    known = tf.debugging.Assert(fits, ["expected values up to", high, "as in the training images; received", most])
    with tf.control_dependencies([known]):
        scaled = tf.round(tf.clip_by_value((colour - low) * (255 / (high - low)), 0, 255))
    flat = tf.cond(has_alpha, lambda: tf.round(scaled * alpha + 255 * (1 - alpha)), lambda: scaled)
    return tf.cast(flat, "uint8")


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
