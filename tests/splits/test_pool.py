"""From a dataset to one pool of pixels and the rows of train, validation and test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggft.caching.cache import Cache
from vggft.data import scan
from vggft.errors import DataError
from vggft.splits import pool as pools
from vggft.splits.pool import Pool
from vggft.splits.splitting import Known
from vggft.telling.progress import Narrator

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
LABELS = np.repeat([0, 1], [60, 20])  # three to one, to see the stratification
MIXED = np.arange(80) % 2


def prepare(data: Any, **arguments: Any) -> Pool:
    return pools.prepare(data, 2, reading=32, cache=Cache(), narrator=Narrator(0), **arguments)


def folder(path: Path) -> Path:
    """Two classes of eight images, and one file that is not an image."""
    for row in range(16):
        file = path / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(file)
    (path / "a" / "letter.jpg").write_text("Dear bee")
    return path


def test_fractions_are_of_all_and_of_the_rest_and_stratified() -> None:
    pool = prepare((PIXELS, LABELS), test=0.25, validation=0.2)
    counts = {split: np.bincount(pool.labels(rows)).tolist() for split, rows in pool.rows.items()}
    assert counts == {"train": [36, 12], "validation": [9, 3], "test": [15, 5]}
    assert sorted(np.concatenate(list(pool.rows.values()))) == list(range(80))
    np.testing.assert_array_equal(pool.pixels, PIXELS)
    np.testing.assert_array_equal(pool.targets, np.eye(2)[LABELS])
    assert pool.left_out == () and not any("may be one class" in note for note in pool.notes)


def test_classes_that_may_be_one_are_a_note() -> None:
    pool = prepare((PIXELS, np.array(["ant", "Ant"])[MIXED]))
    assert any("'Ant' (40 images) and 'ant' (40 images) may be one class: " in note for note in pool.notes)


def test_copies_of_an_image_fall_on_one_side_of_a_fraction() -> None:
    pool = prepare((np.repeat(PIXELS[:20], 3, axis=0), np.repeat(MIXED[:20], 3)), test=0.3, validation=0.3)
    sides = {split: pool.digests_of(split) for split in pool.rows}
    assert [len(side) for side in sides.values()] == [10, 4, 6]
    assert len(frozenset.union(*sides.values())) == 20
    assert [len(rows) for rows in pool.rows.values()] == [30, 12, 18]


def test_the_test_rows_follow_from_the_seed_alone() -> None:
    several = [prepare((PIXELS, LABELS), test=0.25, validation=v, seed=3) for v in (0.1, np.float32(0.2), 0.5)]
    for pool in several[1:]:
        np.testing.assert_array_equal(pool.rows["test"], several[0].rows["test"])
    held = (PIXELS[:4], MIXED[:4])
    test = prepare((PIXELS[4:], LABELS[4:]), validation=held, test=0.25, seed=3).rows["test"]
    assert len(test) == 19  # a quarter of the 76 that are not validation
    again = prepare((PIXELS, LABELS), test=0.25, validation=0.2, seed=3)
    assert again.fingerprint == several[1].fingerprint
    other = prepare((PIXELS, LABELS), test=0.25, validation=0.2, seed=4)
    assert set(other.rows["test"]) != set(again.rows["test"]) and other.fingerprint != again.fingerprint


def test_duplicates_between_given_parts_are_left_out_and_named() -> None:
    """Rows 0..11 are train, 12..17 validation, 18..23 test; some are in two or three parts."""
    train, validation, test = [*range(12), 12, 18], [*range(12, 18), 18, 19], [*range(18, 24)]
    pool = prepare(
        (PIXELS[train], MIXED[train]),
        validation=(PIXELS[validation], MIXED[validation]),
        test=(PIXELS[test], MIXED[test]),
    )
    for split, expected in {"train": range(12), "validation": range(12, 18), "test": range(18, 24)}.items():
        np.testing.assert_array_equal(pool.pixels[pool.rows[split]], PIXELS[expected])
    text = "\n".join(pool.left_out)
    assert len(pool.left_out) == 4 and text.count("left out of train") == text.count("left out of validation") == 2
    assert "images[13] was left out of train" in text and "images[7] was left out of validation" in text


def test_duplicates_within_a_given_part_stay() -> None:
    pool = prepare((PIXELS[[0, 1, 0, 1]], MIXED[[0, 1, 0, 1]]), validation=(PIXELS[2:4], MIXED[2:4]))
    assert [len(rows) for rows in pool.rows.values()] == [4, 2] and pool.left_out == ()


def test_a_part_that_duplicates_empty_is_an_error() -> None:
    with pytest.raises(DataError, match="No images are left in train"):
        prepare((PIXELS[:4], MIXED[:4]), validation=(PIXELS[:4], MIXED[:4]))


def test_bad_images_are_raised_or_left_out_and_listed(tmp_path: Path) -> None:
    data = folder(tmp_path)
    with pytest.raises(DataError, match=r"1 of 17 images cannot be used.*\n.*letter\.jpg is not an image"):
        prepare(data)
    pool = prepare(data, on_bad_image="skip", validation=0.25)
    bad = pool.names.index(str(data / "a" / "letter.jpg"))
    assert set(np.concatenate(list(pool.rows.values()))) == set(range(17)) - {bad}
    assert [len(rows) for rows in pool.rows.values()] == [12, 4]
    (left_out,) = pool.left_out
    assert "letter.jpg is not an image" in left_out


def test_images_are_decoded_once_whatever_their_names(tmp_path: Path) -> None:
    """The second time they come from the disk, though the files were moved; only what is unreadable is tried again."""
    kinds: dict[str, Any] = {"on_bad_image": "skip", "validation": 0.25}
    first = prepare(folder(tmp_path / "first"), **kinds)
    shutil.move(tmp_path / "first", tmp_path / "second")
    decoded: list[str] = []
    read, again = scan.read_image, lambda source, size, name: decoded.append(name) or read(source, size, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "read_image", again)
        second = prepare(tmp_path / "second", **kinds)
    assert decoded == [str(tmp_path / "second" / "a" / "letter.jpg")]
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.pixels, first.pixels)
    assert second.audit.to_dict()["images"] == first.audit.to_dict()["images"]
    assert [text.replace("first", "second") for text in first.left_out] == list(second.left_out) != []


def test_an_image_that_changed_is_decoded_again(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "a" / "letter.jpg").unlink()
    before = prepare(data, validation=0.25)
    row = before.names.index(str(data / "a" / "0.png"))
    Image.fromarray(255 - PIXELS[0]).save(data / "a" / "0.png")
    after = prepare(data, validation=0.25)
    np.testing.assert_array_equal(before.pixels[row], PIXELS[0])
    np.testing.assert_array_equal(after.pixels[row], 255 - PIXELS[0])


def test_known_images_stay_in_their_splits_and_test_keeps_its_share() -> None:
    first = prepare((PIXELS[:60], MIXED[:60]), test=0.2, validation=0.25)
    known = Known(first.class_names, False, first.splits)
    second = prepare((PIXELS, MIXED), validation=0.25, known=known)
    assert {split: len(rows) for split, rows in second.rows.items()} == {"train": 48, "validation": 16, "test": 16}
    assert first.splits.items() <= second.splits.items()
    assert "images that are new to the classifier in start: 12 train, 4 validation, 4 test" in second.notes


def test_what_is_new_to_an_earlier_classifier_and_what_cannot_be_judged_is_told() -> None:
    known = Known(("0", "1"), False, prepare((PIXELS[:40], MIXED[:40])).splits)
    held = {"validation": (PIXELS[40:46], MIXED[40:46]), "test": (PIXELS[46:50], np.zeros(4, int))}
    new = np.r_[PIXELS[:40], PIXELS[50:60]], np.r_[MIXED[:40], np.repeat([2, 3], 5)]
    pool = pools.prepare(new, 4, **held, known=known, reading=32, cache=Cache(), narrator=Narrator(0))
    assert pool.notes[-4:] == (
        "images that are new to the classifier in start: 10 train, 6 validation, 4 test",
        "classes that are new to it: 2, 3",
        "validation has no images of 2, 3",
        "test has no images of 1, 2, 3",
    )


def test_known_images_are_left_out_where_the_given_splits_contradict() -> None:
    splits = dict(zip(prepare((PIXELS, MIXED)).digests[:6], ["train"] * 3 + ["validation"] * 3, strict=True))
    held = {"validation": (PIXELS[:20], MIXED[:20]), "test": (PIXELS[2:5], MIXED[2:5])}
    with pytest.raises(
        DataError, match=r"left in test .* used\. The classifier in start knows all others: add new images\.$"
    ):
        prepare((PIXELS[20:], MIXED[20:]), **held, known=Known(("0", "1"), False, splits))
    held["test"] = PIXELS[2:8], MIXED[2:8]
    pool = prepare((PIXELS[20:], MIXED[20:]), **held, known=Known(("0", "1"), False, splits))
    assert [len(pool.rows[split]) for split in ("train", "validation", "test")] == [60, 15, 2]
    told = "images[2] was left out of test: it is a validation image of the classifier in start"
    assert told in pool.left_out and len(pool.left_out) == 3 + 4 + 2  # and two copies


def test_a_table_has_every_image_in_use_with_its_split_and_group() -> None:
    for group in (None, [*range(40), *range(40)]):
        pool = prepare((PIXELS, LABELS), group=group)
        found = {row["image"]: row for row in pool.table()}
        for split, rows in pool.rows.items():
            for row in rows:
                more = {} if group is None else {"group": str(group[row])}
                assert found[f"images[{row}]"] == {"image": f"images[{row}]", "split": split} | more
        assert (pool.units_of(pool.rows["train"]) is None) == (group is None)


def test_what_was_asked_is_told_where_images_are_too_few() -> None:
    told = r"^There are too few images for validation=0\.2, test=0\.3, at test: .* too few in: '1' \(1\)"
    with pytest.raises(DataError, match=told):
        prepare((PIXELS[:5], np.array([0, 0, 0, 0, 1])), test=0.3)


def test_several_labels_are_ones_and_zeros() -> None:
    several = np.stack([MIXED, 1 - MIXED, np.ones(80, int)], axis=-1)
    pool = pools.prepare((PIXELS, several), 3, reading=32, cache=Cache(), narrator=Narrator(0))
    labels = pool.labels(pool.rows["train"])
    assert pool.multi_label and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, several[pool.rows["train"]])


def test_ten_classes_are_named_of_those_that_were_read_off_the_data() -> None:
    pool = pools.prepare((PIXELS, np.arange(80) % 12), None, reading=32, cache=Cache(), narrator=Narrator(0))
    told = "num_classes=12 was read off the data: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... and 2 more"
    assert any(note.startswith(told) for note in pool.notes), pool.notes
