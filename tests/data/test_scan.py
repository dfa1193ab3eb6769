"""One decoding pass: pixels, digests and what is wrong with files; the cache of decoded images."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from data_samples import folder, picture, pixels, whole
from PIL import Image

from vggft.caching.cache import Cache
from vggft.data import scan as scan_module
from vggft.data.dataset import Dataset
from vggft.data.scan import Scan, decode, pixel_dtype, scan
from vggft.errors import DataError
from vggft.pictures.files import DecodedImage, read_image
from vggft.pictures.known import UNREADABLE, contents_of, look_at
from vggft.pictures.reading import Reading
from vggft.telling.progress import Narrator


def test_a_scan_fills_the_pixels_and_finds_what_is_wrong(tmp_path: Path) -> None:
    folder(tmp_path, a=6, b=6)
    (tmp_path / "a" / "1.png").write_bytes(b"hello")
    (tmp_path / "b" / "0.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    (tmp_path / "b" / "5.png").write_bytes(b"")
    data = whole(tmp_path)
    calls: list[int] = []
    array = np.full((12, 32, 32, 3), 7, np.uint8)
    found = scan(data, 32, array, lambda: calls.append(1))
    assert len(calls) == 12
    assert sorted(found.problems) == [1, 11]
    assert found.problems[1] == f"{data.names[1]} is not an image: it begins with b'hello'."
    assert found.problems[11] == f"{data.names[11]} is an empty file (0 bytes)."
    assert found.digests[1] == "" and found.facts[1].item() == ("", 0, 0, "", "")
    assert found.digests[0] == found.digests[6] != found.digests[2]
    assert len(set(found.digests)) == 10
    assert found.facts[0].item() == (found.digests[0], 40, 36, "RGB", "PNG")
    assert (array[1] == 7).all() and (array[0] == array[6]).all()
    np.testing.assert_array_equal(array[0], Image.fromarray(pixels(1)[0]).resize((32, 32), Image.Resampling.BILINEAR))


def test_arrays_and_files_with_the_same_content_have_the_same_digests(tmp_path: Path) -> None:
    for i, name in enumerate("aab"):
        picture(tmp_path / name / f"{i}.png", seed=i, size=(40, 40))
    files = whole(tmp_path)
    images = np.stack([np.asarray(Image.open(path)) for path in files.images])
    for size in (32, 40):
        expected = scan(files, size).digests
        assert len(set(expected)) == 3
        assert scan(whole((images, [0, 0, 1])), size).digests == expected
        assert scan(whole((images.astype(np.float32), [0, 0, 1])), size).digests == expected
        assert scan(whole((list(images), [0, 0, 1])), size).digests == expected


def test_a_scan_of_arrays_does_not_rescale_dark_images() -> None:
    images = np.zeros((3, 32, 32, 3), np.float32)
    images[0], images[1], images[2] = 0.7, 1, 200
    data = whole((images, [0, 1, 0]))
    array = np.empty((3, 32, 32, 3), pixel_dtype(look_at(data.images, Reading()), Reading.of(32)))
    found = scan(data, 32, array)
    np.testing.assert_array_equal(array, images)
    assert [tuple(row)[1:] for row in found.facts.tolist()] == [(32, 32, "float32", "")] * 3
    rounded = np.empty((3, 32, 32, 3), np.uint8)
    scan(data, 32, rounded)
    np.testing.assert_array_equal(rounded[:, 0, 0, 0], [1, 1, 200])
    small = scan(whole(([np.zeros((32, 32, 3)), np.ones((32, 32, 3))], [0, 1])), 64)
    assert not small.problems


def test_a_scan_stops_where_its_caller_raises() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(whole((pixels(50), [0, 1] * 25)), 32, on_image=stop)


# The cache of decoded images ------------------------------------------------------------------------------------------


def decoded(data: Dataset, cache: Cache, image_size: int = 32) -> tuple[np.ndarray, Scan]:
    return decode(data, image_size, cache, Narrator(0))


def test_a_message_is_never_cut_and_names_the_file_as_it_is_called_now(tmp_path: Path) -> None:
    data = whole(folder(tmp_path / "first", a=2, b=2))
    deep = tmp_path / "second" / "é" / Path(*["a long name of a folder " * 4] * 5)
    reason = "is not an image: it begins with b'hello'."
    Path(data.images[1]).write_bytes(b"hello")
    assert decoded(data, Cache(tmp_path / "cache"))[1].problems == {1: f"{data.names[1]} {reason}"}
    deep.parent.mkdir(parents=True)
    (tmp_path / "first").rename(deep)
    moved = whole(deep)
    assert decoded(moved, Cache(tmp_path / "cache"))[1].problems == {1: f"{moved.names[1]} {reason}"}
    assert len(moved.names[1]) > 400


def test_an_image_that_can_be_read_later_is_used(tmp_path: Path) -> None:
    """As once pillow-heif has been installed. The cache stays as it was, and the other images are not read again."""
    data, cache = whole(folder(tmp_path / "data", a=2, b=2)), Cache(tmp_path / "cache")

    def unreadable(source: Path, image_size: int, name: str) -> DecodedImage:
        if source == data.images[2]:
            raise DataError(f"{name} needs another decoder.")
        return read_image(source, image_size, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vggft.data.scan.read_image", unreadable)
        images, found = decoded(data, cache)
    assert found.problems == {2: f"{data.names[2]} needs another decoder."}
    assert found.digests[2] == "" and not images[2].any() and images[[0, 1, 3]].any(axis=(1, 2, 3)).all()
    images, found = decoded(data, cache)
    np.testing.assert_array_equal(images[2], read_image(data.images[2], 32).pixels)
    assert found.problems == {} and found.digests == scan(data, 32).digests
    assert all(bad == 0 for _, _, bad in cache.verify())


def test_threads_are_used_whatever_backend_joblib_is_told_to_use(tmp_path: Path) -> None:
    data = whole(folder(tmp_path / "data", a=2, b=2))
    expected = decoded(data, Cache(tmp_path / "cache"))[0]
    with joblib.parallel_config(backend="loky"):  # processes would fill copies of the array
        scan(data, 32, images := np.zeros((4, 32, 32, 3), np.uint8))
    np.testing.assert_array_equal(images, expected)


# Files that have not changed are not read -----------------------------------------------------------------------------


def written(path: Path, text: str, age: float = 10.0) -> Path:
    """A file that was last modified some seconds ago."""
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def rewritten(path: Path, text: str) -> None:
    """Change what is in a file, but neither its size nor its time."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, files = Cache(tmp_path / "cache"), [written(tmp_path / f"{i}.png", f"picture {i}") for i in range(5)]
    calls: list[int] = []
    first = contents_of([*files, files[0]], cache, lambda: calls.append(1))
    assert len(set(first)) == 5 and first[5] == first[0] and len(calls) == 6
    rewritten(files[1], "picture X")
    assert contents_of([*files, files[0]], cache, lambda: calls.append(1)) == first and len(calls) == 12
    monkeypatch.chdir(tmp_path)
    assert contents_of([Path("1.png")], cache) == first[1:2]
    written(files[2], "picture X", age=20)  # another time
    written(files[3], "a picture", age=10)
    found = contents_of(files, cache)
    assert found[2] != first[2] and found[3] != first[3]
    assert [found[row] == first[row] for row in range(5)] == [True, True, False, False, True]
    monkeypatch.setenv("VGGFT_CACHE_CHECK", "1")
    checked = contents_of(files, cache)
    assert checked[1] == checked[2] and checked[1] != first[1]
    monkeypatch.setenv("VGGFT_CACHE_CHECK", "0")
    rewritten(files[4], "picture Y")
    assert contents_of(files, cache) == checked  # the entry of 1 was corrected, that of 4 is still relied on


def test_what_may_change_unseen_is_not_relied_on(tmp_path: Path) -> None:
    """Files that were modified just now, those that cannot be read, and links to another file."""
    cache = Cache(tmp_path / "cache")
    new, old = written(tmp_path / "new.png", "first", age=0), written(tmp_path / "old.png", "first")
    link = tmp_path / "link.png"
    link.symlink_to(old)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    os.utime(folder, (0, 0))
    images = [new, old, link, folder, tmp_path / "missing.png"]
    first = contents_of(images, cache)
    assert first[0] == first[1] == first[2] and first[3] == first[4] == UNREADABLE
    rewritten(new, "other")
    link.unlink()
    link.symlink_to(written(tmp_path / "another.png", "other"))
    folder.rmdir()
    written(folder, "other", age=time.time())
    found = contents_of(images, cache)
    assert found[1] == first[1] and found[0] == found[2] == found[3] not in first
    assert all(bad == 0 for _, _, bad in cache.verify())


def test_a_cache_that_cannot_be_written_only_makes_it_slower(tmp_path: Path) -> None:
    file = written(tmp_path / "cache", "a file where the directory should be")
    assert contents_of([file, file], Cache(file)) == contents_of([file, file], Cache(tmp_path / "other"))


def test_a_damaged_entry_is_replaced(tmp_path: Path) -> None:
    cache, files = Cache(tmp_path / "cache"), [written(tmp_path / f"{i}.png", f"picture {i}") for i in range(5)]
    first = contents_of(files, cache)
    ((rows,),) = [list(store.path.glob("*.rows.npy")) for store in cache.stores()]
    data = bytearray(rows.read_bytes())
    data[-1] ^= 1
    rows.write_bytes(data)
    for _ in range(2):  # what was beside it is read again the second time
        assert contents_of(files, cache) == first
    assert [(total, bad) for _, total, bad in cache.verify()] == [(5, 0)]


def test_an_unreadable_file_never_gives_its_row_to_another(tmp_path: Path) -> None:
    """It could be read by the time that it is decoded; files that cannot be read share one digest."""
    data, cache = whole(folder(tmp_path / "data", a=2, b=2)), Cache(tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vggft.pictures.known.content_of", lambda image: UNREADABLE)
        images, found = decoded(data, cache)
    assert found.problems == {} and images.any(axis=(1, 2, 3)).all()
    for path in data.images:
        path.unlink()
    images, found = decoded(data, cache)
    assert len(found.problems) == 4 and not images.any()


@pytest.mark.parametrize("step", ["contents_of", "look_at"])
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_file_that_changes_while_it_is_read_is_named_and_not_kept(
    step: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pixels would else be kept under the digest of what was in it before."""
    data, cache = whole(folder(tmp_path / "data", a=2, b=2)), Cache(tmp_path / "cache")
    expected, _ = decoded(data, Cache(tmp_path / "other"))
    victim, others = data.images[1], data.images[2]
    before, real = victim.read_bytes(), getattr(scan_module, step)

    def then_change(*arguments: Any, **keywords: Any) -> Any:
        found = real(*arguments, **keywords)
        victim.unlink()
        if how == "changed":
            victim.write_bytes(others.read_bytes())
        return found

    monkeypatch.setattr(scan_module, step, then_change)
    with pytest.raises(DataError, match=rf"changed while they were read: .*{victim.name} was {how}\. Start again"):
        decoded(data, cache)
    monkeypatch.undo()
    victim.write_bytes(before)
    images, found = decoded(data, cache)
    assert not found.problems
    np.testing.assert_array_equal(images, expected)
