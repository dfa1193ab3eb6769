"""Images that belong together, such as those of a patient, are never on two sides of a split or of folds."""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vggft.caching.cache import Cache
from vggft.data.audit import audit
from vggft.errors import ConfigError, DataError, VggftError
from vggft.heads.resampling import nested, resample
from vggft.splits import pool as pools
from vggft.splits.groups import described, groups_of, key_of, together, told_groups
from vggft.splits.pool import Pool
from vggft.splits.splitting import Known, folds_of, split_rows
from vggft.telling.progress import Narrator

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
PATIENTS = np.arange(120) // 6  # 20 patients with 6 slices each
LABELS = PATIENTS % 2


def prepare(data: Any, **arguments: Any) -> Pool:
    return pools.prepare(data, None, reading=32, cache=Cache(), narrator=Narrator(0), **arguments)


def sides(pool: Pool) -> dict[str, set[str]]:
    """The splits of each group."""
    found = defaultdict(set)
    for split, rows in pool.rows.items():
        for row in rows:
            found[pool.groups[row]].add(split)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 120 slices as files such as a_b/healthy/patient3_07.png."""
    root = tmp_path_factory.mktemp("slices") / "a_b"
    for row, patient in enumerate(PATIENTS):
        file = root / ("healthy", "ill")[LABELS[row]] / f"patient{patient}_{row:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(file)
    return root


def table(files: Path) -> pd.DataFrame:
    paths = sorted(files.rglob("*.png"))
    patients = [int(re.findall(r"patient(\d+)", path.name)[0]) for path in paths]
    return pd.DataFrame(
        {"image": map(str, paths), "label": [path.parent.name for path in paths], "PatientID": patients}
    )


NAMED = {
    "a function of the file name": lambda name: name.split("_")[0],
    "a function of the path": lambda name: Path(name).stem.partition("_")[0],
    "an expression as text": r"(patient\d+)",
    "an expression": re.compile(r"patient(\d+)"),
    "a mapping of stems": {f"patient{p}_{row:02}": p for row, p in enumerate(PATIENTS)},
    "a mapping of file names": {f"patient{p}_{row:02}.png": f"no. {p}" for row, p in enumerate(PATIENTS)},
}


@pytest.mark.parametrize("kind", NAMED)
def test_groups_by_file_name(files: Path, kind: str) -> None:
    pool = prepare(files, test=0.2, validation=0.25, group=NAMED[kind])
    assert len(sides(pool)) == 20 and all(len(each) == 1 for each in sides(pool).values())
    counts = {split: np.bincount(pool.labels(rows)).tolist() for split, rows in pool.rows.items()}
    assert counts == {"train": [36, 36], "validation": [12, 12], "test": [12, 12]}
    assert any("20 groups of 120 images, none of them on two sides" in note for note in pool.notes)
    assert any(note == "num_classes=2 was read off the data: healthy, ill" for note in pool.notes)
    assert {row["group"] for row in pool.table()} == set(pool.groups)


def test_a_name_is_asked_before_its_path() -> None:
    paths = ["a/p1.png", "b/p2.png"]
    assert groups_of(lambda name: name[:2], paths, {}) == ("p1", "p2")
    assert groups_of(r"([a-z]\d?)", paths, {}) == ("p1", "p2")
    assert groups_of(r"([ab])/", paths, {}) == ("a", "b")  # no file name has this
    assert groups_of(re.compile(r"(left )?eye"), ["left eye.png", "eye.png"], {}) == ("left", "eye")  # the whole match


def test_a_mapping_has_paths_of_any_system_and_ends_of_paths() -> None:
    group = {"ill\\p1.png": "a", "well/p1.png": "b", "p2": "c", "D:/x/p3.png": "d"}
    names = ["data\\ill\\p1.png", "data/ill/p1.png", "data/well/p1.png", "data/well/p2.png", "D:\\x\\p3.png"]
    assert groups_of(group, names, {}) == ("a", "a", "b", "c", "d")


def test_groups_of_one_image_each_are_said_to_be_of_no_use() -> None:
    useless = "each image is one of its own, so nothing is kept together"
    assert told_groups("ab") == f"2 groups of 2 images ({useless}), none of them on two sides of a split"


@pytest.mark.parametrize("group", ["PatientID", "patientid", np.arange(120) // 6, [float(n) for n in PATIENTS]])
def test_groups_by_column_and_by_array(files: Path, group: Any) -> None:
    data = table(files) if isinstance(group, str) else (PIXELS, LABELS)
    pool = prepare(data, test=0.2, group=group)
    assert len(sides(pool)) == 20 and all(len(each) == 1 for each in sides(pool).values())
    assert "7" in pool.groups  # also of 7.0


def test_a_column_is_meant_by_its_very_name_before_another_spelling() -> None:
    columns = {"site": ["a", "b"], "Site": ["c", "d"]}
    assert groups_of("Site", ["1.png", "2.png"], columns) == ("c", "d")
    with pytest.raises(ConfigError, match="'SITE' is not a column: the columns are site, Site"):
        groups_of("SITE", ["1.png", "2.png"], columns)


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (None, None), ("PatientID", "PatientID"), (re.compile("(a)"), "(a)"), (key_of, "key_of"), ({"a": 1}, "dict"),
        (np.arange(3), "ndarray"),
    ],
)  # fmt: skip
def test_what_made_the_groups_is_kept_in_words(group: Any, told: str | None) -> None:
    assert described(group) == told


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, "", " "])
def test_an_image_without_a_group_is_named(nothing: Any) -> None:
    with pytest.raises(DataError, match=r"images without a group \(1 of 2\): a\.png\."):
        groups_of([nothing, 1], ["a.png", "b.png"], {})


def test_a_group_may_have_a_name_of_several_parts_or_of_bytes() -> None:
    names = ["a.png", "b.png"]
    assert groups_of([("p", 1), ("p", 2)], names, {}) == ("('p', 1)", "('p', 2)")
    days = [datetime.date(2026, 1, 2), pd.Timestamp("2026-01-03")]
    assert groups_of(days, names, {}) == ("2026-01-02", "2026-01-03 00:00:00")
    assert groups_of([b"p1", b"p\xff"], names, {}) == ("p1", "p\N{REPLACEMENT CHARACTER}")
    with pytest.raises(ConfigError, match=r"must give a name or a number for each image; got \('p', None\)"):
        groups_of([("p", 1), ("p", None)], names, {})


def test_the_key_of_a_group_is_as_long_as_a_digest_and_is_not_its_name() -> None:
    assert re.fullmatch("[0-9a-f]{32}", key_of("Mrs Smith")) and key_of("Mrs Smith") != key_of("Mr Smith")


def test_folders_may_be_the_groups(tmp_path: Path) -> None:
    for row in range(16):
        file = tmp_path / "ab"[row // 8] / f"p{row // 2}" / f"{row % 2}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(file)
    for group in (lambda name: Path(name).parent.name, lambda name: name.split("/")[-2]):
        assert len(sides(prepare(tmp_path, validation=0.25, group=group))) == 8


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=6, max_size=25),
    st.floats(0.1, 0.6),
    st.integers(0, 3),
)
def test_whole_groups_are_held_out(members: list[list[int]], fraction: float, seed: int) -> None:
    labels = np.array([label for each in members for label in each])
    groups = np.repeat(np.arange(len(members)), [len(each) for each in members])
    digests = list(map(str, range(len(labels))))
    try:
        kept, held = split_rows(labels, digests, fraction, seed, "abc", groups=groups)
    except DataError as caught:
        owners = [len({g for g, each in enumerate(members) if c in each}) for c in range(3)]
        assert 1 in owners or "on both sides" in str(caught)
        return
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert not set(groups[kept]) & set(groups[held])
    assert set(labels[kept]) == set(labels[held]) == set(labels)
    again = split_rows(labels, digests, fraction, seed, "abc", groups=groups)
    np.testing.assert_array_equal(again[1], held)


def test_uneven_groups_come_near_to_the_fraction() -> None:
    sizes = [60, 30, 10, 10, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1] * 2
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = (groups >= len(sizes) // 2).astype(int)
    for fraction in (0.1, 0.2, 0.5):
        held = split_rows(labels, list(map(str, range(len(labels)))), fraction, 0, "ab", groups=groups)[1]
        assert np.abs(np.bincount(labels[held]) / np.bincount(labels) - fraction).max() < 0.03


def test_copies_join_groups() -> None:
    """The patient who came twice under two names."""
    found = together(["a", "b", "b", "c", ""], ["p", "p", "q", "r", "r"])
    assert found.tolist() == [0, 0, 0, 1, 1] and found.dtype == np.int64
    pixels = PIXELS.copy()
    pixels[6] = pixels[0]
    for seed in range(5):
        found = sides(prepare((pixels, PATIENTS // 2 % 2), test=0.3, group=PATIENTS, seed=seed))
        assert found["0"] == found["1"] and len(found["0"]) == 1


def test_folds_and_what_selects_in_them_keep_groups_together() -> None:
    pool = prepare((PIXELS, LABELS), group=PATIENTS)
    for fold in resample(pool, 4, 1, 0):
        assert not {pool.groups[row] for row in fold.train} & {pool.groups[row] for row in fold.validation}
        assert 24 <= len(fold.validation) <= 36
    for fold, inside in nested(pool, 3, 2, 0.2, 0):
        parts = [{pool.groups[row] for row in rows} for rows in (fold.train, fold.validation, inside)]
        assert sum(map(len, parts)) == 20 == len(set.union(*parts))
    with pytest.raises(DataError, match=r"11 folds need as many groups of every class; too few in: '0' \(10\)"):
        folds_of(pool.targets, pool.digests, 11, 0, "01", pool.units)


def test_a_group_in_two_given_splits_is_left_out_of_the_earlier_one(tmp_path: Path) -> None:
    for row in range(60):
        split = (
            ("train", "train", "test")[row % 3]
            if PATIENTS[row] in (2, 3)
            else ("train", "test")[int(PATIENTS[row] > 7)]
        )
        file = tmp_path / split / "ab"[LABELS[row]] / f"p{PATIENTS[row]}_{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(file)
    pool = prepare(tmp_path, group=lambda name: name.split("_")[0])
    assert all(len(each) == 1 for each in sides(pool).values()) and sides(pool)["p2"] == {"test"}
    assert len(pool.left_out) == 8
    told = r"p2_12.png was left out of (train|validation): .*p2_14.png in a later split is of the same group, 'p2'$"
    assert any(re.search(told, each) for each in pool.left_out)
    assert any("4 more" in each or "more than one split" in each for each in audit(tmp_path).warnings)
    unknown = r"since the dataset has splits of its own, in whose order its images are read\.$"
    with pytest.raises(ConfigError, match=unknown):
        prepare(tmp_path, group=PATIENTS[:60])


def test_an_update_keeps_known_groups_apart() -> None:
    """Also if no image of a group that is known is there any more."""
    first = prepare((PIXELS[:60], LABELS[:60]), test=0.3, group=PATIENTS[:60])
    known = Known(first.class_names, False, first.splits)
    assert first.splits[key_of("3")] in ("train", "validation", "test")
    rows = [row for row in range(120) if row % 6 > 2 or row >= 60]
    pixels = PIXELS[rows].copy()
    pixels[:30] = 255 - pixels[:30]  # new images of the same patients
    second = prepare((pixels, LABELS[rows]), test=0.3, group=PATIENTS[rows], known=known)
    for group, split in sides(first).items():
        assert sides(second)[group] == split
    assert all(len(each) == 1 for each in sides(second).values()) and len(sides(second)) == 20


REFUSED: list[tuple[Any, str]] = [
    ("hospital", r"group='hospital' is not a column: the columns are PatientID"),
    (
        "hospital (",  # no expression either
        r"\. Without a column, give group=lambda name: name\.split\('_'\)\[0\], or another function of the file name, "
        r"or a regular expression with parentheses, such as group='\(patient\\d\+\)' \(--group '\(patient\\d\+\)'\)\.$",
    ),
    (np.arange(7), "one entry for each image: got 7 for 120"),
    (5, r"group must be the name of a column, .*; got 5\."),
    ("", "group must be the name of a column"),
    (lambda name: re.match("(.*)_", name), "must give a name or a number for each image; got"),
    (lambda name: name.index("?"), r"cannot be used on file names, such as 'patient0_00.png': it raised ValueError"),
    (lambda name: "p" if name > "patient5" else None, "images without a group .* Give each of them one"),
    ({"patient0_00": 1}, r"images without a group \(119 of 120\): "),
    (lambda name: "the same", "images of at least 2 groups"),
    (["a", object()] * 60, "must give a name or a number"),
]


@pytest.mark.parametrize(("group", "told"), REFUSED)
def test_what_is_no_group(files: Path, group: Any, told: str) -> None:
    with pytest.raises(VggftError, match=told):
        prepare(table(files), group=group)


def test_images_without_names_or_order_have_groups_by_a_column_alone() -> None:
    for group in ({"a": 1}, re.compile("(a)"), len):
        with pytest.raises(
            ConfigError, match=rf"a column here, since they have none; got {re.escape(repr(group))[:9]}"
        ):
            groups_of(group, ["images[0]"], {}, nameless="they have none")
    with pytest.raises(ConfigError, match="a column or a function of the file name here, since they are shuffled"):
        groups_of([1], ["a.png"], {}, unordered="they are shuffled")


def test_images_of_a_stream_have_no_names_to_make_groups_of() -> None:
    tf = pytest.importorskip("tensorflow")
    stream = tf.data.Dataset.from_tensor_slices((PIXELS[:8], LABELS[:8]))
    told = r"since images of a tf\.data\.Dataset or PyDataset have no names, and may be shuffled; got"
    for group in (len, PATIENTS[:8]):
        with pytest.raises(ConfigError, match=told):
            prepare(stream, group=group)


def test_what_made_the_groups_travels_with_the_pool(files: Path) -> None:
    found = prepare(table(files), group="PatientID")
    assert found.grouping == {"group": "PatientID", "groups_digest": key_of("\n".join(found.groups))}
    assert prepare(table(files)).grouping == {}


def test_arrays_have_no_columns() -> None:
    with pytest.raises(ConfigError, match="'site' is not a column: these data have no columns besides the labels"):
        prepare((PIXELS, LABELS), group="site")


def test_a_class_of_one_patient_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"images of at least 2 groups .* too few in: '2' \(1\)"):
        prepare((PIXELS, np.where(PATIENTS == 5, 2, LABELS)), group=PATIENTS)


def looks(names: list[str], **columns: list[Any]) -> list[str]:
    """The warnings of an audit of 30 images of two classes with these names."""
    from vggft.data.suspects import suspects

    texts = {name: list(map(str, cells)) for name, cells in columns.items()}
    return suspects(names, texts, ["all"] * len(names), [row // 5 % 2 for row in range(len(names))])


@pytest.mark.parametrize(
    ("pattern", "owner"),
    [
        ("patient{p}_{n:02}.png", r"'(patient\\d+)'"),
        ("video{p}_frame{n:04}.jpg", r"'(video\\d+)'"),
        ("P{p:03}-slice-{n}.png", r"'(P\\d+)'"),
        ("subject {p} scan {n}.jpg", r"'(subject \\d+)'"),
        ("{p}_{n}.png", r"'(\\d+)'"),
        ("IMG_{row:04}.jpg", None),
        ("ISIC_{row:07}.jpg", None),
        ("cat.{row}.jpg", None),
        ("rose ({row}).jpg", None),
        ("n0208{c}_{row}.JPEG", None),  # one beginning for each class
        ("{row}.png", None),
    ],
)
def test_the_audit_recognises_patients_and_frames(pattern: str, owner: str | None) -> None:
    names = [pattern.format(p=row // 5, n=row % 5, row=row, c=row // 5 % 2) for row in range(30)]
    found = looks(names)
    assert len(found) == (owner is not None)
    if owner is not None:
        assert f"by group={owner.replace(chr(92) * 2, chr(92))}" in found[0]
        groups = groups_of(owner.replace("\\\\", "\\")[1:-1], names, {})
        assert len(set(groups)) == 6


def test_the_audit_warns_of_identifiers(files: Path) -> None:
    names = [f"{row}.png" for row in range(100)]
    (found,) = looks(
        names, patient_id=[row // 5 for row in range(100)], sex=[0, 1] * 50, age=[row % 50 for row in range(100)]
    )
    assert "the column 'patient_id' looks like an identifier (20 values in 100 rows)" in found
    assert found.endswith("group='patient_id' (--group patient_id)")
    assert not looks(names, image_id=list(range(100)), site=[0, 1, 2, 3] * 25)
    told = "\n".join(audit(table(files)).warnings)
    assert "group='PatientID'" in told and "file names look like several pictures" in told
    pool = prepare(table(files), group="PatientID")
    assert not any("looks like" in each for each in (*pool.audit.warnings, *pool.notes))
    assert any("looks like an identifier" in each for each in prepare(table(files)).notes)
