"""Frozen features: never a wrong row, one pass, despite values out of range and too little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vggft
from vggft.caching.cache import Cache
from vggft.config import Head
from vggft.features import extract
from vggft.heads.batches import Batches, Examples, FeatureBank
from vggft.network import forward
from vggft.network.description import Description, build
from vggft.network.weights import Pretrained, load_pretrained
from vggft.telling.progress import Narrator

MAPS = ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool")
VECTORS = {  # and the heads that see them
    "avg_pool": Head(blocks="block5"),
    "max_pool": Head(blocks="block5", pooling="max"),
    "flatten": Head(pooling="flatten"),
    "block2_avg_pool": Head(blocks="block2"),
    "block3_block4_block5_avg_pool": Head(blocks=("block3", "block4", "block5")),
    "block1_block4_max_pool": Head(blocks=("block4", "block1"), pooling="max"),
}
CUTS = (*MAPS, *VECTORS)
ROWS = 300  # more than a shard
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
DIGESTS = tuple(f"{row:032x}" for row in range(ROWS))
NARRATOR = Narrator(0)


@pytest.fixture(scope="module")
def pretrained(tiny_weights: Path) -> Pretrained:
    return load_pretrained(tiny_weights)


def whole_network(pretrained: Pretrained, head: Head) -> keras.Model:
    found = build(Description(("a", "b"), 32, width=1 / 16, head=head))
    pretrained.assign(found)
    return found


@pytest.fixture(scope="module")
def whole(pretrained: Pretrained) -> dict[str, np.ndarray]:
    """What plain Keras gives for every image, at every cut."""
    heads = dict.fromkeys(MAPS, Head()) | VECTORS
    models = {cut: forward.between(whole_network(pretrained, head), None, cut) for cut, head in heads.items()}
    return {cut: model.predict(PIXELS, verbose=0) for cut, model in models.items()}


def get(pretrained: Pretrained, cuts: list[str], rows: np.ndarray, cache: Cache, **arguments: Any) -> dict[str, list]:
    """The features of some images, which are the whole dataset of this run."""
    prefix = extract.Prefix(pretrained, 32, **{"precision": "float32", "stored_as": "float32"} | arguments)
    planned = extract.passes(prefix, cuts, [DIGESTS[row] for row in rows], np.arange(len(rows) // 2))
    features = extract.frozen_features(prefix, planned, PIXELS[rows], cache=cache, narrator=NARRATOR)
    bank = FeatureBank(PIXELS[rows], np.eye(len(rows)), features, width=pretrained.width)
    return {cut: bank.arrays(cut) for cut in cuts}


def changed(pretrained: Pretrained, layer: str, factor: float) -> Pretrained:
    """The same weights, but for the kernel of one layer."""
    kernel = f"{layer}/kernel"
    return replace(pretrained, arrays={**pretrained.arrays, kernel: pretrained.arrays[kernel] * np.float32(factor)})


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_row_is_ever_wrong(
    data: st.DataObject,
    pretrained: Pretrained,
    whole: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Random cuts, sizes, subsets and orders, one cache for all of them; through batches as a fit sees them."""
    cache = Cache(tmp_path_factory.getbasetemp() / "property")
    cuts = data.draw(st.lists(st.sampled_from(CUTS), min_size=1, max_size=3, unique=True))
    rows = np.array(data.draw(st.lists(st.integers(0, ROWS - 1), min_size=2, max_size=ROWS, unique=True)))
    if data.draw(st.booleans()):
        rows = np.random.default_rng(len(rows)).permutation(ROWS)
    found = get(pretrained, cuts, rows, cache)
    train = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=50, unique=True)))
    size, seed = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 5))
    for cut in cuts:
        np.testing.assert_allclose(found[cut][0], whole[cut][rows], atol=1e-4)
        batches = Batches(Examples(found[cut][0], np.eye(len(rows), dtype="float32"), train), size, seed)
        for number in range(len(batches)):
            inputs, targets = batches[number]
            np.testing.assert_allclose(inputs, whole[cut][rows[targets.argmax(1)]], atol=1e-4)


def test_two_cuts_cost_one_pass_and_none_the_second_time(
    pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward_all = forward.forward_all

    def counted(prefix: keras.Model, inputs: np.ndarray, **arguments: Any) -> list[np.ndarray]:
        rows = arguments.get("rows")
        seen.append(len(inputs if rows is None else rows))
        return forward_all(prefix, inputs, **arguments)

    monkeypatch.setattr(extract, "forward_all", counted)
    for _ in range(2):
        get(pretrained, ["block4_pool", "avg_pool"], np.arange(ROWS), Cache(tmp_path))
        assert sum(seen) == ROWS
    get(pretrained, ["block3_pool", "block4_pool"], np.arange(ROWS), Cache(tmp_path))  # one of them is new
    assert sum(seen) == 2 * ROWS


def test_vectors_of_all_blocks_cost_one_pass(
    pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(pretrained, ["avg_pool"], np.arange(ROWS), Cache(tmp_path))
    monkeypatch.setattr(extract, "forward_all", None)
    for cut in set(VECTORS) - {"flatten"}:
        assert len(get(pretrained, [cut], np.arange(ROWS), Cache(tmp_path))[cut][0]) == ROWS


def test_views_are_kept_as_well_and_are_of_the_training_images(pretrained: Pretrained, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"augment": vggft.Augment(views=3), "seed": 4}
    found = get(pretrained, ["avg_pool"], np.arange(60), Cache(tmp_path), **arguments)["avg_pool"]
    assert [len(view) for view in found] == [60, 30, 30]
    assert not np.allclose(found[1], found[0][:30]) and not np.allclose(found[1], found[2])
    again = get(pretrained, ["avg_pool"], np.arange(60), Cache(tmp_path), **arguments)["avg_pool"]
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = get(pretrained, ["avg_pool"], np.arange(60), Cache(tmp_path), **(arguments | {"seed": 5}))["avg_pool"]
    np.testing.assert_array_equal(other[0], found[0])
    assert not np.allclose(other[1], found[1])


def test_other_weights_are_another_entry(pretrained: Pretrained, tmp_path: Path) -> None:
    before = get(pretrained, ["block2_pool", "avg_pool"], np.arange(20), Cache(tmp_path))
    other = changed(pretrained, "block5_conv3", 2)
    after = get(other, ["block2_pool", "avg_pool"], np.arange(20), Cache(tmp_path))
    assert not np.allclose(before["avg_pool"][0], after["avg_pool"][0])
    np.testing.assert_array_equal(before["block2_pool"][0], after["block2_pool"][0])  # which block 5 does not change


def test_views_belong_to_the_image_wherever_it_stands(pretrained: Pretrained, tmp_path: Path) -> None:
    """`get` trains on the first half, so these two data sets have images 10 to 19 in both, at other places."""
    arguments: dict[str, Any] = {"augment": vggft.Augment(views=2)}
    first = get(pretrained, ["avg_pool"], np.arange(40), Cache(tmp_path), **arguments)["avg_pool"]
    other = get(pretrained, ["avg_pool"], np.arange(10, 60), Cache(tmp_path / "other"), **arguments)["avg_pool"]
    np.testing.assert_allclose(other[1][:10], first[1][10:20], atol=1e-5)


@pytest.mark.parametrize("change", ["superset", "subset", "order"])
def test_only_images_that_nobody_has_seen_are_computed(
    change: str, pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(pretrained, ["avg_pool"], np.arange(100), Cache(tmp_path))
    seen: list[int] = []
    forward_all = forward.forward_all
    counted = lambda prefix, inputs, **how: (seen.append(len(inputs)), forward_all(prefix, inputs, **how))[1]  # noqa: E731
    monkeypatch.setattr(extract, "forward_all", counted)
    rows = {"superset": np.arange(110), "subset": np.arange(50), "order": np.arange(100)[::-1]}[change]
    get(pretrained, ["avg_pool"], rows, Cache(tmp_path))
    assert sum(seen) == (10 if change == "superset" else 0)


def test_features_too_large_for_16_bits_are_kept_in_32(pretrained: Pretrained, tmp_path: Path) -> None:
    large = changed(pretrained, "block2_conv2", 1e6)
    (found,) = get(large, ["block2_pool"], np.arange(20), Cache(tmp_path), stored_as="float16")["block2_pool"]
    plain = forward.between(whole_network(large, Head()), None, "block2_pool").predict(PIXELS[:20], verbose=0)
    assert found.dtype == "float32" and plain.max() > np.finfo("float16").max
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1)


SMALL_MEMORY = """
import json, resource
import numpy as np, keras
from vggft.network import forward
inputs = keras.Input((1,))  # an image becomes 2 MB; convolutions of oneDNN crash where others raise
model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(keras.layers.RepeatVector(2**19)(inputs)))
numbers = np.arange(200, dtype="float32")[:, None] % 7
forward.forward(model, numbers[:8])
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 250 * 2**20,) * 2)
sizes = []
found = forward.forward(model, numbers, batch_size=200, advance=sizes.append)
assert np.allclose(found, numbers)
print(json.dumps(sizes))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    command = [sys.executable, "-c", SMALL_MEMORY]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert sum(sizes) == 200 and 1 < sizes[0] < 200
