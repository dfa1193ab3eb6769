"""Streams: read once, kept in the cache as they come, and the same as arrays of the same images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import arrays, error, pixels, whole

from vggft.caching.cache import Cache
from vggft.data import streams
from vggft.data.audit import audit
from vggft.data.dataset import Dataset
from vggft.data.scan import decode
from vggft.data.streams import Keep, Stream, read_stream
from vggft.errors import CacheError, DataError
from vggft.splits.pool import Pool, prepare
from vggft.telling.progress import Narrator

QUIET = Narrator(0)


def batches(images: Any, size: int = 3) -> Iterator[tuple[Any, np.ndarray]]:
    labels = np.arange(len(images)) % 2
    return ((images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size))


def read(images: Any, cache: Cache, image_size: int = 32) -> Stream:
    return read_stream(batches(images), Keep(image_size, cache))


def test_a_stream_is_looked_over_as_arrays_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read a second time, so its images are kept; floats that were not resized are rounded, not cut."""
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path))
    images = pixels(10, (32, 32)) / np.float32(255)
    images[3] = 24.6 / 255
    for data in (batches(images), (images, np.arange(10) % 2)):
        (found,) = audit(data, image_size=32, check_images=True).findings
        assert (found.kind, found.details) == ("dark", ("99 % of it are below 10% of white",))


def dataset(stream: Stream) -> Dataset:
    names = tuple(f"images[{i}]" for i in range(len(stream.images)))
    return Dataset(stream.images, stream.labels, ("0", "1"), names)


NOISE = pixels(10, (40, 36))
GIVEN = {
    "uint8": NOISE,
    "uint16": NOISE.astype("uint16") * 257,
    "int64": NOISE.astype("int64"),
    "bool": NOISE > 127,
    "0..1": NOISE / np.float32(255),
    "0..255": NOISE.astype("float64"),
    "0..1, not resized": NOISE[:, :32, :32] / 255,
    "grey": NOISE[..., 0],
    "rgba": np.concatenate([NOISE, 255 * (NOISE[..., :1] > 99)], axis=-1).astype("uint8"),
    "dark at first": np.concatenate([NOISE[:3] * 0, NOISE[3:]]).astype("float32"),
}


@pytest.mark.parametrize("given", list(GIVEN))
def test_a_stream_is_the_same_as_arrays(given: str, tmp_path: Path) -> None:
    """Also for the cache, where an image that was decoded for one is there for the other."""
    images, cache = GIVEN[given], Cache(tmp_path)
    expected, of_arrays = decode(whole((images, np.arange(10) % 2)), 32, cache, QUIET)
    before = cache.parts()
    stream = read(images, cache)
    assert [part.files for part in cache.parts()] == [part.files for part in before]
    found, of_stream = decode(dataset(stream), 32, cache, QUIET)
    order = [of_arrays.digests.index(digest) for digest in of_stream.digests]
    assert sorted(order) == list(range(10)) or given == "dark at first"
    assert found.dtype == expected.dtype == (np.float32 if "not resized" in given else np.uint8)
    np.testing.assert_array_equal(found, expected[order])
    np.testing.assert_array_equal(arrays(dataset(stream)), found)
    np.testing.assert_array_equal(of_stream.facts, of_arrays.facts[order])
    assert of_arrays.notes == (stream.note,)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, on import
def test_a_tf_data_dataset_gives_the_same_pool_however_it_is_shuffled(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    images, labels = pixels(30), np.arange(30) % 2
    data = tf.data.Dataset.from_tensor_slices((images, labels))

    def pool(data: Any, cache: str, **more: Any) -> Pool:
        kinds: dict[str, Any] = {"reading": 32, "narrator": QUIET, "validation": 0.2, "test": 0.2, **more}
        return prepare(data, 2, cache=Cache(tmp_path / cache), **kinds)

    first = pool(data.shuffle(30, seed=1).batch(4), "first")
    for other in (pool(data.shuffle(30, seed=2).batch(7), "first"), pool(data, "other")):
        assert other.fingerprint == first.fingerprint
        np.testing.assert_array_equal(other.pixels, first.pixels)
    assert sorted(pool((images, labels), "arrays").digests) == sorted(first.digests)
    # The images of one split are kept as floats and those of another as integers; together they are floats.
    floats = data.take(10).map(lambda image, label: (tf.cast(image[:32, :32], tf.float32) / 255, label))
    mixed = pool(data.skip(10), "first", validation=floats, test=(images[:2], [0, 1]))
    assert mixed.pixels.dtype == np.float32
    digests = {digest: row for row, digest in enumerate(mixed.digests)}
    for row, digest in enumerate(first.digests):
        if digest in digests:
            np.testing.assert_array_equal(mixed.pixels[digests[digest]], first.pixels[row])


def test_each_batch_is_read_once_and_images_that_are_there_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PART", 4)
    cache, came = Cache(tmp_path), []

    def counted(images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, batch in enumerate(batches(images)):
            came.append(number)
            yield batch

    read_stream(counted(NOISE), Keep(32, cache))
    assert came == [0, 1, 2, 3]
    before = {part.files for part in cache.parts()}
    decode(dataset(read(NOISE[::-1], cache)), 32, cache, QUIET)
    assert {part.files for part in cache.parts()} == before
    read(np.concatenate([NOISE[5:], 255 - NOISE[:1]]), cache)
    new = [store.shards for store in cache.stores() if not store.refresh()]
    assert sum(map(len, new)) == len(before) + 2  # pixels and facts of the one that is new


def test_the_first_images_decide_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PART", 4)
    for low, high, kind in ((0.5, 150, "float32"), (200, 300, "uint16")):
        images = np.full((9, 32, 32, 3), low, kind)
        images[1] = high
        assert read(images, Cache(tmp_path)).note.endswith(("float 0..255", "integer 0..1023"))
        images[1], images[6] = low, high
        with pytest.raises(DataError, match=r"(?s)images\[6\] holds .*pass value_range=.*convert all images to uint8"):
            read(images, Cache(tmp_path))


def test_all_impossible_values_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PART", 4)
    images = np.full((20, 32, 32, 3), 0.5, np.float32)
    images[6, 0, 0, 0], images[15], images[16] = np.nan, -1, 300
    with pytest.raises(DataError) as caught:
        read(images, Cache(tmp_path))
    assert "0..1 or 0..255" in str(caught.value)
    for part in ("images[6] holds NaN", "images[15] holds the value -1,", "images[16] holds the value 300,"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(NOISE.transpose(0, 3, 1, 2), np.arange(10))], r"shape \(10, 3, 36, 40\), channels first"),
        ([(NOISE, np.arange(9))], r"equal length; got the shapes \(10, 36, 40, 3\) and \(9,\)"),
        ([(NOISE, np.arange(10)), (NOISE, np.eye(10))], r"same shape in all batches; got \[\(\), \(10,\)\]"),
        ([NOISE], "must be .images, labels"),
        ([], "the dataset is empty"),
    ],
)
def test_what_is_no_batch(given: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_stream(given, Keep(32, Cache(tmp_path)))


def test_images_that_are_gone_cannot_be_read_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    stream = read(NOISE, cache)
    cache.prune(0)
    for use in (lambda: np.asarray(stream.images[3]), lambda: decode(dataset(stream), 32, cache, QUIET)):
        with pytest.raises(CacheError, match=r"cannot be read again.*VGGFT_CACHE_DIR"):
            use()
    with pytest.raises(CacheError, match="not kept"):
        np.asarray(read_stream(batches(NOISE), Keep(32)).images[0])


def test_a_stream_that_finds_no_room_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PART", 2)
    came = []

    def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for seed in range(100):
            came.append(seed)
            yield pixels(2, (40, 40), seed), np.array([0, 1])

    with pytest.raises(CacheError, match="has room for"):
        read_stream(endless(), Keep(32, Cache(tmp_path, max_size=20 * 32 * 32 * 3)))
    assert len(came) < 30


@pytest.mark.filterwarnings("ignore")
def test_an_audit_of_a_stream_keeps_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keras = pytest.importorskip("keras")
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self, images: np.ndarray) -> None:
            super().__init__()
            self.batches = list(batches(images))

        def __len__(self) -> int:
            return len(self.batches)

        def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
            return self.batches[i]

    images = np.concatenate([NOISE, NOISE[:1], NOISE[:1]])
    found = audit(Batches(images), 2, image_size=32, verbose=1)
    assert "12/12" in capsys.readouterr().err
    expected = audit((images, np.arange(12) % 2), 2, image_size=32)
    assert (found.widths, found.heights, found.modes) == (expected.widths, expected.heights, expected.modes)
    assert len(found.duplicates) == len(found.conflicts) == 1 and len(found.duplicates[0]) == 3
    assert not (tmp_path / "cache").exists()
    images = images.astype(float)
    images[1, 2] = np.nan
    assert "images[1] holds NaN" in error(Batches(images))


MEMORY = """
import resource, sys
import numpy as np
from vggft.caching.cache import Cache
from vggft.data.scan import decode
from vggft.data.dataset import Dataset
from vggft.data.streams import Keep, read_stream
from vggft.telling.progress import Narrator
rng = np.random.default_rng(0)
batches = ((rng.random((20, 96, 96, 3), np.float32), np.arange(20) % 2) for _ in range(int(sys.argv[1])))
cache = Cache(sys.argv[2])
found = read_stream(batches, Keep(96, cache))
data = Dataset(found.images, found.labels, ("0", "1"), tuple(map(str, range(len(found.images)))))
assert decode(data, 96, cache, Narrator(0))[0].dtype == np.float32
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    peaks = []
    for count in (25, 60):  # of batches; the images have 55 and 133 MB
        code = [sys.executable, "-c", MEMORY, str(count), str(tmp_path / str(count))]
        peaks.append(int(subprocess.run(code, capture_output=True, text=True, check=True, timeout=120).stdout))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    assert (peaks[1] - peaks[0]) / unit < 40
