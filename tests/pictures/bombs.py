"""Small files of every format that claim to be large, or that take a decoder long; nothing here is drawn by chance."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

Make = Callable[[], bytes]
BROAD = 13_000  # px; its square is just below the limit of pixels


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(size: int) -> bytes:
    """Deflated zeros of any number, in a thousandth of it."""
    packer, part = zlib.compressobj(1), bytes(2**20)
    whole = [packer.compress(part) for _ in range(size >> 20)]
    return b"".join([*whole, packer.compress(bytes(size & (2**20 - 1))), packer.flush()])


def png(width: int, height: int, depth: int, colour: int, before: bytes = b"", data: bytes | None = None) -> bytes:
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    data = zeros(height * (1 + (width * bands * depth + 7) // 8)) if data is None else data
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"\x2f" + struct.pack("<I", bits) + b"\x88\x88\x08\0\0\0\0\0\0"
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def jpeg(width: int = 64, height: int = 64, progressive: bool = False, **how: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=30, progressive=progressive, **how)
    return file.getvalue()


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of nothing, comes again and again."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    first = data.index(b"\xff\xda")
    refine = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + b"\0" * 8
    return data[:-2] + refine * scans + b"\xff\xd9" if first else data


def jpeg_of_segments(count: int, marker: int = 0xE1, body: bytes = b"Exif\0\0II*\0\x08\0\0\0\0\0") -> bytes:
    data = jpeg()
    return data[:2] + (bytes((0xFF, marker)) + struct.pack(">H", 2 + len(body)) + body) * count + data[2:]


def exif_of_tags(count: int, claimed: int) -> bytes:
    tags = b"".join(struct.pack("<HHII", 1 + tag, 1, claimed, 8) for tag in range(count))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(8)


def bmp(width: int, height: int, compression: int, data: bytes, bits: int = 8) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 2, 0)
    palette = b"\0\0\0\0\xff\xff\xff\0"
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


def tiff(tags: dict[int, tuple[int, tuple[int, ...]]], data: bytes = b"", times: int = 1) -> bytes:
    """A TIFF of one page: tag -> its type and its values; strips that begin at -1 begin where the data does."""
    count = len(tags) * times
    aside, at, entries = b"", 8 + 2 + 12 * count + 4, []
    size = sum(len(v) * {3: 2, 4: 4}[k] for k, v in tags.values() if len(v) * {3: 2, 4: 4}[k] > 4)
    for tag, (kind, given) in sorted(tags.items()):
        values = tuple(at + size if value == -1 else value for value in given)
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, aside = struct.pack("<I", at + len(aside)), aside + packed
        entries += [struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")] * times
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries) + bytes(4) + aside + data


def plain_tiff(width: int, height: int, bits: int, form: int, data: bytes, compression: int = 1, **more: int) -> bytes:
    rows, bands = more.get("rows", height), more.get("bands", 1)
    strips = -(-height // rows)
    return tiff(
        {
            256: (4, (width,)), 257: (4, (height,)), 258: (3, (bits,) * bands), 259: (3, (compression,)),
            262: (3, (1,)), 273: (4, (-1,) * strips), 277: (3, (bands,)), 278: (4, (rows,)),
            279: (4, (len(data),) * strips), 339: (3, (form,) * bands),
        },
        data,
    )  # fmt: skip


def npy(shape: tuple[int, ...], dtype: str = "<f8", data: bytes = b"") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head) + 1) + head + b"\n" + data


def qoi(width: int, height: int, size: int) -> bytes:
    return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + b"\xc0" * size + b"\0" * 7 + b"\1"


def gif(width: int, height: int, comments: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    comment = b"!\xfe\xff" + b"x" * 255 + b"\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"
    return head + comment * comments + frame + b";"


def jp2(width: int, height: int, tile: int) -> bytes:
    """A code stream of JPEG 2000 in which another size is claimed."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG2000", no_jp2=True)
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\x51") + 6
    struct.pack_into(">IIIIIIII", data, at, width, height, 0, 0, tile, tile, 0, 0)
    return bytes(data)


def avif(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "AVIF")
    data = bytearray(file.getvalue())
    struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


def dicom(size: int) -> bytes:
    """A deflated DICOM file, whose data set grows."""

    def element(group: int, tag: int, kind: bytes, value: bytes) -> bytes:
        return struct.pack("<HH", group, tag) + kind + struct.pack("<H", len(value)) + value

    meta = element(2, 16, b"UI", b"1.2.840.10008.1.2.1.99")
    meta = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packer.compress(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, size))
    body += b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    return bytes(128) + b"DICM" + meta + body


def _text(size: int) -> bytes:
    return _chunk(b"zTXt", b"Comment\0\0" + zeros(size))


CHEAP: dict[str, Make] = {
    "webp of 34 bytes": lambda: webp(16383, 10900),
    "tiff of floats": lambda: plain_tiff(BROAD, BROAD, 32, 3, b"", 8),
    "tiff of strips": lambda: plain_tiff(60_000, 2900, 8, 1, b"\0" * 64, rows=1),
    "tiff of bands": lambda: plain_tiff(BROAD, BROAD, 16, 1, zeros(2**20), 8, bands=5),
    "jpeg of scans": lambda: jpeg_of_scans(1000, 1000, 400),
    "jpeg of exif segments": lambda: jpeg_of_segments(6000),
    "jpeg of exif tags": lambda: jpeg_of_segments(1, body=exif_of_tags(5000, 60_000)),
    "jpeg of exif tags in segments": lambda: jpeg_of_segments(12, body=exif_of_tags(5000, 60_000)),
    "webp": lambda: webp(9000, 9000),
    "ppm without data": lambda: b"P6 12000 12000 65535\n",
    "npy of much": lambda: npy((BROAD, BROAD, 60)),
    "jpeg 2000 of one tile": lambda: jp2(BROAD, BROAD, BROAD),
    "dicom that inflates": lambda: dicom(90 * 2**20),
    "gif of comments": lambda: gif(64, 64, 6000),
}


def bombs(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the long form: other sizes and other formats of the same kinds."""
    draw = np.random.default_rng(seed)
    for name, make in CHEAP.items():
        yield name, make()
    for number in range(2):
        side, many = int(draw.integers(9000, BROAD)), int(draw.integers(50_000, 150_000))
        yield f"png of 16 bits {number}", png(side, side, 16, 0)
        yield f"png of colours {number}", png(side, side, 8, 6)
        yield f"png of colours of 16 bits {number}", png(side, side, 16, 2)
        yield f"png of 1 bit {number}", png(side, side, 1, 0)
        yield f"png of text {number}", png(64, 64, 8, 2, _text(900_000) * 90)
        yield f"png of text that is too long {number}", png(64, 64, 8, 2, _text(2**28))
        yield f"png of a profile {number}", png(64, 64, 8, 2, _chunk(b"iCCP", b"x\0\0" + zeros(2**28)))
        yield f"png of pieces {number}", png(64, 64, 8, 2, _chunk(b"tEXt", b"a\0b") * many)
        yield f"png of exif {number}", png(64, 64, 8, 2, _chunk(b"eXIf", exif_of_tags(60_000, 700_000)[6:]))
        yield f"png without data {number}", png(side, side, 8, 2, data=b"")
        yield f"jpeg of exif {number}", jpeg_of_segments(many)
        yield f"jpeg of photoshop {number}", jpeg_of_segments(many, 0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\0")
        yield f"jpeg of comments {number}", jpeg_of_segments(many, 0xFE, b"x" * 100)
        yield f"jpeg of profiles {number}", jpeg_of_segments(many, 0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 100)
        yield f"jpeg of scans {number}", jpeg_of_scans(int(draw.integers(500, 4000)), 1000, many // 10)
        yield f"bmp of runs {number}", bmp(side, side, 1, b"\xff\x01" * int(draw.integers(100, 9000)))
        yield f"bmp of runs of 4 bits {number}", bmp(side, side, 2, b"\xff\x01" * int(draw.integers(100, 9000)), 4)
        yield f"bmp of jumps {number}", bmp(side, side, 1, b"\0\2\xff\xff" * many)
        yield f"bmp without data {number}", bmp(side, side, 0, b"", 24)
        yield (
            f"pgm of comments {number}",
            b"P2\n" + b"#" * 10_000_000 + b"\n64 64\n255\n" + b"#\n" * many + b"1 " * 4096,
        )
        yield f"pgm of spaces {number}", b"P5 " + b" " * 10_000_000 + b"64 64 255\n" + bytes(4096)
        yield f"pgm of text {number}", b"P3\n2000 2000\n255\n" + b"7 " * 12_000_000
        yield f"ppm without data {number}", f"P6 {side} {side} 65535\n".encode()
        yield f"pfm without data {number}", f"Pf\n{side} {side}\n-1.0\n".encode()
        yield f"qoi {number}", qoi(side, side, 10_000_000)
        yield f"qoi without data {number}", qoi(side, side, 8)
        yield f"gif of a large frame {number}", gif(side, side, 0)
        yield f"gif of comments {number}", gif(64, 64, many)
        yield f"tiff of strips {number}", plain_tiff(int(draw.integers(9, 99)), 1_000_000, 8, 1, bytes(99), rows=1)
        yield f"tiff of doubles {number}", plain_tiff(side, side, 64, 3, zeros(2**22), 8)
        yield f"tiff of bands {number}", plain_tiff(side, side, 16, 1, b"", 8, bands=200)
        yield f"tiff of lzw {number}", plain_tiff(side, side, 8, 1, b"\x80" + b"\xff" * 10_000, 5)
        yield f"tiff of tags {number}", tiff({256: (4, (64,)), 257: (4, (64,))}, times=30_000)
        yield f"webp {number}", webp(side, side)
        yield f"jpeg 2000 of tiles {number}", jp2(side, side, 1)
        yield f"jpeg 2000 {number}", jp2(side, side, 4096)
        yield f"avif {number}", avif(side, side)
        yield f"npy {number}", npy((side, side), "<f8", bytes(2**20))
        yield f"dicom that inflates {number}", dicom(2**30)
