"""Estimates before a run agree with what the run does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggft
from vggft.costs import FIRST_BATCH

SETTINGS: dict[str, Any] = {"num_classes": 3, "image_size": 32, "verbose": 0}
QUICK = vggft.Training(epochs=4, fine_tune_epochs=2, batch_size=16)
LAST = vggft.Head(blocks=("block5",))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates are compared with each other, so they are of one and the same machine, on which nothing else runs."""
    monkeypatch.setattr("vggft.training.experiment.crowding", lambda: 1.0)


@pytest.mark.parametrize("freeze", ["all", "block4", pytest.param("none", marks=pytest.mark.slow)])
def test_what_is_foretold_is_written(
    freeze: str, stripes: tuple, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    arguments = SETTINGS | {"backbone": tiny_weights, "freeze": freeze, "training": QUICK}
    told = vggft.estimate(stripes, **arguments)
    assert not list(cache.glob("features/*"))
    vggft.finetune(stripes, **arguments, run_dir=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "estimate.json").read_text())["bytes_on_disk"] == told.bytes_on_disk
    rows = [np.load(file, mmap_mode="r") for file in cache.glob("features/*/*.rows.npy")]
    written = sum(each.nbytes for each in rows if each.dtype == np.float16)  # and 4 exact rows, to compare with
    assert told.bytes_on_disk == written > 0
    assert (told.passes, told.views, told.images) == (1, 120, {"train": 96, "validation": 24})
    again = vggft.estimate(stripes, **arguments)
    assert (again.passes, again.bytes_on_disk, again.bytes_in_cache) == (0, 0, written)
    assert again.feature_seconds == 0 and "in the cache" in str(again)
    assert again.training_seconds == pytest.approx(told.training_seconds)


def test_more_work_is_said_to_take_longer(stripes: tuple, tiny_weights: Path) -> None:
    def told(**arguments: Any) -> vggft.Estimate:
        return vggft.estimate(stripes, **(SETTINGS | {"backbone": tiny_weights, "training": QUICK} | arguments))

    frozen, views = told(), told(augment=vggft.Augment(views=4))
    assert (views.passes, views.views) == (4, 120 + 3 * 96)
    each = [cost.feature_seconds - FIRST_BATCH for cost in (frozen, views)]
    assert each[1] == pytest.approx(each[0] * 408 / 120)
    anew = told(augment=lambda pixels: pixels)  # the frozen blocks in every epoch
    assert anew.passes == 0 and anew.bytes_on_disk == 0
    assert anew.training_seconds > frozen.training_seconds + 3 * each[0]
    deep = told(freeze="block3")
    deeper = told(freeze="block2")
    assert frozen.training_seconds < deep.training_seconds < deeper.training_seconds
    assert deep.peak_memory >= frozen.peak_memory
    once, twice = (told(freeze="block3", test=0.2, refit=refit) for refit in (False, True))
    assert once.training_seconds > 2.5  # before the first step
    assert twice.training_seconds > once.training_seconds + 2.5
    training = dataclasses.replace(QUICK, phases="gradual")
    deep, gradual = (told(freeze="block3", head=LAST, training=each) for each in (QUICK, training))
    assert gradual.training_seconds > deep.training_seconds and gradual.peak_memory == deep.peak_memory
    assert gradual.passes == 1 and gradual.bytes_on_disk > deep.bytes_on_disk  # one more cut of the same pass


def test_other_numbers_of_images_and_machines_are_foretold(stripes: tuple, tiny_weights: Path) -> None:
    def told(**arguments: Any) -> vggft.Forecast:
        found = vggft.estimate(stripes, **(SETTINGS | {"backbone": tiny_weights, "training": QUICK} | arguments))
        assert isinstance(found, vggft.Forecast)
        return found

    one, two = (told(images=1_200_000, workers=workers, freeze="block4") for workers in (1, 2))
    assert one.images == {"train": 960_000, "validation": 240_000} and one.views == 1_200_000
    passes = [each.seconds["frozen features"] - FIRST_BATCH for each in (one, two)]
    assert passes[0] == pytest.approx(2 * passes[1], rel=0.01)
    assert one.stores == two.stores and one.stores["decoded images"] == 1_200_000 * 32 * 32 * 3
    blocks = [each.seconds["training of blocks"] for each in (one, two)]
    assert blocks[0] / 2 < blocks[1]  # by the sums of gradients
    assert list(two.seconds.values()) == sorted(two.seconds.values(), reverse=True)
    assert two.hours == pytest.approx(sum(two.seconds.values()) / 3600) == two.to_dict()["hours"]
    assert two.minutes == two.to_dict()["minutes"] == pytest.approx(60 * two.hours)
    assert "1,200,000 images on 2 machines like this one: at most" in str(two) and "training of blocks" in str(two)
    here = told(workers=2)  # as many images as there are
    assert here.images == {"train": 96, "validation": 24}
    for wrong in ({"workers": 0}, {"images": 3}, {"workers": 1.5}):
        with pytest.raises(vggft.ConfigError, match="must be an integer >="):
            told(**wrong)


def test_the_trials_of_a_search_are_counted_with_their_own_heads(
    stripes: tuple, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """It once took them for free, and said 2 seconds of what took two minutes."""

    def end(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vggft.tuning.search._tune", end)
    heads = vggft.SearchSpace(units=[8, 16], layers=[1, 2], normalize=None)

    def told(**arguments: Any) -> float:
        how = {"backbone": tiny_weights, "space": heads, "trials": 10, "algorithm": "random"}
        how |= {"training": QUICK} | arguments
        run_dir = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        with pytest.raises(KeyboardInterrupt):
            vggft.search(stripes, **(SETTINGS | how), run_dir=run_dir)
        return json.loads((run_dir / "estimate.json").read_text())["training_seconds"]

    ten = told(resume=True, verbose=1)
    assert re.search(r"Note: there is no run in \S+ yet, so a new one begins\.", capsys.readouterr().err)
    assert ten > 10 * 0.7  # to trace each head
    assert told(repeats=4) == pytest.approx(4 * ten, rel=0.2)
    compiled = vggft.Training(epochs=400, batch_size=16)
    assert told(training=compiled) > ten + 10 * 1.3
    assert told(freeze="block4") > ten + 10 * 2.5  # blocks are traced as well
    assert told(algorithm="bayesian") == pytest.approx(ten + 3 * 0.4)  # one trial after 9 at random, 3 hyperparameters


def test_bad_data_is_told_before_an_estimate(stripes: tuple, tiny_weights: Path) -> None:
    with pytest.raises(vggft.DataError):
        vggft.estimate(stripes, **(SETTINGS | {"num_classes": 4}), backbone=tiny_weights)
    with pytest.raises(vggft.ConfigError, match="precision must be one of"):
        vggft.estimate(stripes, **SETTINGS, backbone=tiny_weights, precision="float8")


def test_too_little_disk_is_said_before_anything_is_computed(
    stripes: tuple, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All passes together have to find room, not only the first."""
    from vggft.caching.cache import Cache
    from vggft.training import experiment

    size = 120 * 32 * 32 * 3 + 120 * 500 + 120 * 2 * 2 * 32 * 2 + 10_000  # images, facts, and features of one view
    monkeypatch.setattr(experiment, "Cache", lambda: Cache(max_size=size))
    monkeypatch.setattr("vggft.pipeline.INSTEAD", 0)  # bytes of features that memory would take instead
    with pytest.raises(vggft.CacheError, match="Set VGGFT_CACHE_DIR to a directory on a larger disk"):
        vggft.finetune(
            stripes,
            **SETTINGS,
            backbone=tiny_weights,
            freeze="block4",
            augment=vggft.Augment(views=100),
            run_dir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_what_the_audit_found_is_said_before_a_run(
    stripes: tuple, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = stripes[0].copy(), stripes[1]
    images[3], images[7] = images[0], images[5]  # a copy of its class, and one of another class
    data = {"train": (images[:90], labels[:90]), "test": (images[90:], labels[90:])}
    vggft.estimate(data, **(SETTINGS | {"verbose": 1, "backbone": tiny_weights}))
    told = " ".join(capsys.readouterr().err.split())
    assert "equal images have different labels: train images[5] (2) = train images[7] (1)." in told
    assert "The data has 1 image with different labels, 1 group of duplicates: `vggft audit` lists them." in told
