"""Decoding and resizing real files of every kind, made with Pillow."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from vggft.errors import DataError
from vggft.listings.folders import walk
from vggft.pictures.arrays import to_pixels
from vggft.pictures.files import read_image
from vggft.pictures.formats import BOMB_PIXELS, IMAGE_SUFFIXES, sniff, suffix_fits
from vggft.pictures.reading import RESIZE_RULE

if TYPE_CHECKING:
    from pathlib import Path

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(width: int = 96, height: int = 64) -> Image.Image:
    """Red, green; blue, white: no orientation looks like another."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13
YCBCR = pytest.param("YCbCr", marks=pytest.mark.skipif(OLD_PILLOW, reason="Pillow before 13 reads no YCbCr TIFF"))


def noise(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    near = 255 * (pixels[[8, 8, -8, -8], [8, -8, 8, -8]] > 127)
    return [tuple(map(int, corner)) for corner in near]


def png_header(width: int, height: int) -> bytes:
    """A valid beginning of a PNG of any size, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", YCBCR, "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "YCbCr") else "picture.png")
    quadrants().convert(mode).save(path)
    picture = read_image(path)
    assert picture.pixels.shape == (64, 96, 3)
    assert picture.pixels.dtype == np.uint8
    assert (picture.size, picture.mode, picture.format) == ((96, 64), mode, "TIFF" if path.suffix == ".tif" else "PNG")
    if mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        assert corners(picture.pixels) == [RED, GREEN, BLUE, WHITE]
    else:
        assert (picture.pixels[..., 0] == picture.pixels[..., 2]).all()
        assert picture.pixels[-8, -8, 0] == 255


def test_jpeg_in_cmyk_has_its_colours(tmp_path: Path) -> None:
    quadrants(480, 320).convert("CMYK").save(tmp_path / "picture.jpg", quality=95)
    for image_size in (None, 48):  # 48 is decoded at a smaller scale
        picture = read_image(tmp_path / "picture.jpg", image_size)
        assert corners(picture.pixels) == [RED, GREEN, BLUE, WHITE]
        assert picture.mode == "CMYK"
        assert picture.size == (480, 320)


@pytest.mark.parametrize("form", ["RGBA", "LA", "P", "L with a transparent grey", "PA of a GIF"])
def test_transparency_is_put_on_white(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.png"
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 20, 40))
    if form in ("RGBA", "LA"):
        clear.convert(form).save(path)
    elif form == "PA of a GIF":
        path = tmp_path / "picture.gif"
        clear.save(path)
    else:
        image = Image.new(form[0], (40, 40), 1)
        if form == "P":
            image.putpalette([0, 0, 0, 0, 0, 0])
        image.paste(0, (0, 0, 20, 40))
        image.save(path, transparency=1)
    pixels = read_image(path).pixels
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 255).all()


def test_half_transparency_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 128)).save(tmp_path / "picture.png")
    assert (read_image(tmp_path / "picture.png").pixels == 127).all()
    assert (read_image(Image.new("RGBA", (40, 40), (0, 0, 0, 128))).pixels == 127).all()  # in memory, too


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    Image.fromarray(ramp).save(tmp_path / f"picture{suffix}")
    picture = read_image(tmp_path / f"picture{suffix}")
    assert picture.mode.startswith("I;16")
    np.testing.assert_array_equal(picture.pixels[..., 1], np.rint(ramp / 257))
    assert picture.pixels[0, 32, 0] == 130  # clipping would have made it white


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 32768, 65535], np.int32), [0, 128, 255]),
        (np.array([0, 2048, 4095], np.int32), [0, 128, 255]),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
        (np.array([0, 100, 200], np.float32), [0, 100, 200]),
        (np.array([0, 0.5, 1.02], np.float32), [0, 128, 255]),
    ],
)
def test_32_bit_greys_are_scaled(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    Image.fromarray(values[None].repeat(40, 1).repeat(40, 0)).save(tmp_path / "picture.tif")
    assert sorted(np.unique(read_image(tmp_path / "picture.tif").pixels)) == expected


def test_nan_in_a_float_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(tmp_path / "picture.tif")
    with pytest.raises(DataError, match=r"picture\.tif holds NaN or infinity"):
        read_image(tmp_path / "picture.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = quadrants(320, 192)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"picture{suffix}", exif=exif)
    for image_size in (None, 64):
        picture = read_image(tmp_path / f"picture{suffix}", image_size)
        assert picture.size == (320, 192)
        assert corners(picture.pixels) == [RED, GREEN, BLUE, WHITE]
    with Image.open(tmp_path / f"picture{suffix}") as image:
        assert corners(read_image(image, 64).pixels) == [RED, GREEN, BLUE, WHITE]


def test_damaged_exif_does_not_matter_and_is_told_once_with_the_name_of_the_file(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "picture.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match=r"picture\.jpg: Corrupt EXIF data"):
        assert corners(read_image(tmp_path / "picture.jpg").pixels) == [RED, GREEN, BLUE, WHITE]
    assert corners(read_image(tmp_path / "picture.jpg").pixels) == [RED, GREEN, BLUE, WHITE]  # and no warning


def test_one_picture_in_all_orientations(shared_data: Path) -> None:
    for kind in ("Landscape", "Portrait"):
        first, *others = (read_image(shared_data / "exif" / f"{kind}_{i}.jpg", 64) for i in range(9))
        for picture in others:
            assert picture.size == first.size
            # The files were compressed one by one, so they differ by a little.
            assert np.abs(picture.pixels.astype(int) - first.pixels).mean() < 3


def test_large_rotated_photos_of_sign_digits(shared_data: Path) -> None:
    turned = [p for p in sorted((shared_data / "sign_digits" / "7").iterdir()) if p.stat().st_size > 500_000]
    assert len(turned) == 3
    for path in turned:
        with Image.open(path) as image:
            assert image.getexif()[0x0112] == 6
            expected = image.transpose(Image.Transpose.ROTATE_270).resize((64, 64), Image.Resampling.BOX)
        assert np.abs(read_image(path, 64).pixels.astype(int) - np.asarray(expected)).mean() < 3


def test_decoding_a_large_jpeg_at_a_smaller_scale_keeps_its_quality(tmp_path: Path) -> None:
    small = Image.fromarray(noise(40, 40))
    small.resize((1600, 1200), Image.Resampling.BICUBIC).save(tmp_path / "picture.jpg", quality=95)
    quick = read_image(tmp_path / "picture.jpg", 96)
    with Image.open(tmp_path / "picture.jpg") as image:
        exact = np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR))
    assert quick.size == (1600, 1200)
    assert np.abs(quick.pixels.astype(int) - exact).mean() < 4


@pytest.mark.parametrize(("image_size", "decoded"), [(50, (200, 300)), (51, (400, 600)), (201, (800, 1200))])
def test_a_jpeg_is_decoded_at_four_times_what_is_wanted_or_more(
    tmp_path: Path, image_size: int, decoded: tuple[int, int]
) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(noise(90, 90)).resize((800, 1200), Image.Resampling.BICUBIC).save(path, quality=95)
    with Image.open(path) as image:
        image.draft("RGB", decoded)
        assert image.size == decoded
        expected = np.asarray(image.resize((image_size, image_size), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_image(path, image_size).pixels, expected)


@pytest.mark.parametrize(("image_size", "mean", "most"), [(64, 0.12, 1), (94, 0.15, 2), (189, 0.14, 2), (224, 0.08, 1)])
def test_a_photograph_gives_nearly_the_same_from_its_file_and_from_memory(
    shared_data: Path, image_size: int, mean: float, most: int
) -> None:
    """The numbers in the module's docstring; 94 and 189 px are where a scale leaves hardly more than 4 times."""
    path = shared_data / "sign_digits" / "7" / "IMG_5874.JPG"
    from_file = read_image(path, image_size).pixels.astype(int)
    with Image.open(path) as image:
        opened = read_image(image, image_size).pixels
        decoded = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(to_pixels(decoded[None], image_size)[0], opened)
    difference = np.abs(from_file - opened)
    assert difference.max() <= most and difference.mean() < mean


def test_the_resize_rule_is_pinned() -> None:
    """Saved classifiers and cached features count on it: another rule needs another `RESIZE_RULE`."""
    assert RESIZE_RULE == "squash-bilinear-antialias-draft4"
    image = Image.fromarray(noise(700, 500))
    expected = image.resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_image(image, 64).pixels, expected)


def test_the_whole_picture_is_squashed_and_antialiased() -> None:
    stripes = np.zeros((512, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # a filter that does not widen would give black or white
    pixels = read_image(Image.fromarray(stripes), 32).pixels
    assert pixels.shape == (32, 32, 3)
    assert np.abs(pixels[:, 1:-1].astype(int) - 127).max() <= 2
    assert corners(read_image(quadrants(640, 64), 32).pixels) == [RED, GREEN, BLUE, WHITE]  # nothing was cut off


def test_files_bytes_streams_and_pil_images_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(noise()).save(path)
    expected = read_image(path, 40).pixels
    with Image.open(path) as image, path.open("rb") as file:
        for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, image):
            np.testing.assert_array_equal(read_image(source, 40).pixels, expected)
        assert image.size == (64, 48)  # left as it was


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"picture{suffix}", save_all=True, append_images=frames[1:])
    assert corners(read_image(tmp_path / f"picture{suffix}").pixels) == [RED] * 4


def test_jpegs_with_several_frames_are_jpegs(tmp_path: Path) -> None:
    frames = [quadrants(), quadrants()]
    frames[0].save(tmp_path / "picture.jpg", format="MPO", save_all=True, append_images=frames[1:])
    picture = read_image(tmp_path / "picture.jpg", 32)
    assert picture.format == "MPO"
    assert suffix_fits(".JPG", "MPO") and not suffix_fits(".png", "MPO")


def reason(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path, 64)
    assert str(caught.value).count(str(path)) == 1
    assert str(caught.value).startswith(f"{path} ")
    return str(caught.value).removeprefix(f"{path} ")


def test_what_is_no_picture_says_what_it_is(tmp_path: Path) -> None:
    def file(content: bytes) -> Path:
        path = tmp_path / "picture.jpg"
        path.write_bytes(content)
        return path

    assert reason(file(b"hello, world")) == "is not an image: it begins with b'hello, world'."
    assert reason(file(b"")) == "is an empty file (0 bytes)."
    assert "Git LFS pointer" in reason(file(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"))
    assert "web page" in reason(file(b"<!DOCTYPE html><html>Not found</html>"))
    assert "HEIC" in reason(file(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"))
    assert "begins with b'%!PS" in reason(file(b"%!PS-Adobe-3.0 EPSF-3.0\n"))  # Pillow would start Ghostscript for it
    assert reason(tmp_path / "missing.jpg") == "does not exist."
    assert reason(tmp_path) == "is a folder, not an image."
    with pytest.raises(DataError, match="must be a path, bytes, a binary file or a PIL image; got int"):
        read_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "format"), [(".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".gif", "GIF")])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, format: str) -> None:
    whole, part = io.BytesIO(), tmp_path / f"part{suffix}"
    Image.fromarray(noise(200, 200)).save(whole, format)
    for kept in (0.9, 0.5):
        part.write_bytes(whole.getvalue()[: int(kept * len(whole.getvalue()))])
        text = reason(part)
        assert (
            f"is truncated (the {format} data ends early)" in text or "cannot be decoded" in text or "damaged" in text
        )
        if suffix in (".jpg", ".png"):
            assert "is truncated" in text


def test_random_damage_is_a_data_error_or_a_picture() -> None:
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = io.BytesIO()
        Image.fromarray(noise()).save(whole, format)
        rng = np.random.default_rng(0)
        for _ in range(40):
            data = np.frombuffer(whole.getvalue(), np.uint8).copy()
            data[rng.integers(4, min(len(data), 400), 5)] = rng.integers(0, 256, 5)
            try:
                assert read_image(data.tobytes(), 32).pixels.shape == (32, 32, 3)
            except DataError as error:
                assert str(error).startswith("the image ")
            except UserWarning:
                pass  # of Pillow's, about metadata; an error only in these tests


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30_000, 30_000))
    limit = Image.MAX_IMAGE_PIXELS
    tracemalloc.start()
    text = reason(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert "is 30000x30000 = 900 million pixels, above the limit of 179 million" in text
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pictures_that_pillow_only_warns_of_are_read_in_threads(tmp_path: Path) -> None:
    width, height = 12_000, 8_000
    assert Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS < width * height < BOMB_PIXELS
    path = tmp_path / "large.png"
    Image.new("1", (width, height), 1).save(path)
    with ThreadPoolExecutor(1) as pool:
        picture = pool.submit(read_image, path, 32).result()
    assert (picture.pixels == 255).all()


def test_small_pictures_are_enlarged(tmp_path: Path) -> None:
    for size in ((20, 20), (31, 200), (1, 1)):
        Image.new("RGB", size, RED).save(tmp_path / "small.png")
        found = read_image(tmp_path / "small.png", 32)
        assert found.size == size and found.pixels.shape == (32, 32, 3) and (found.pixels == RED).all()


def test_files_are_found_by_suffix_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in (
        "b/2.JPG",
        "b/1.png",
        "a.webp",
        "notes.txt",
        ".hidden.png",
        "__MACOSX/x.png",
        "b/.git/x.png",
        "Thumbs.db",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    images, others = walk(tmp_path)
    assert [str(p.relative_to(tmp_path)) for p in images] == ["a.webp", "b/1.png", "b/2.JPG"]
    assert [p.name for p in others] == ["notes.txt"]
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".gif", ".heic"} <= IMAGE_SUFFIXES
    assert sniff(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") == "PNG" and sniff(b"hello") is None
