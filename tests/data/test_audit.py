"""What `audit` finds in data with every fault, and that it finds nothing in flawless data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggft.data.audit import Audit, audit, make_audit
from vggft.data.dataset import open_dataset
from vggft.data.scan import scan
from vggft.errors import ConfigError, DataError


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 36), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for c, name in enumerate(("daisy", "rose")):
        for i in range(4):
            picture(tmp_path / name / f"{i}.png", seed=10 * c + i)
    return tmp_path


def found(data: Any, *args: Any) -> Audit:
    return audit(data, *args, image_size=32)


def test_clean_data(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = found(clean, 2)
    assert result.ok and result.errors == result.warnings == result.duplicates == result.unreadable == ()
    assert (result.images, result.splits, result.class_names) == (8, {"all": 8}, ("daisy", "rose"))
    assert result.class_counts == {"all": {"daisy": 4, "rose": 4}}
    assert (result.widths, result.heights) == ((40, 40, 40), (36, 36, 36))
    assert (result.modes, result.formats) == ({"RGB": 8}, {"PNG": 8})
    text = str(result)
    assert text.startswith("8 images, 2 classes\n40x36 px each; 8 PNG, 8 RGB\n")
    assert text.endswith("No problems found.")
    assert capsys.readouterr() == ("", "")


def test_unreadable_files(clean: Path) -> None:
    (clean / "rose" / "0.png").write_bytes(b"hello")
    (clean / "rose" / "1.png").write_bytes((clean / "rose" / "2.png").read_bytes()[:60])
    result = found(clean)
    assert not result.ok and len(result.unreadable) == 2
    assert "2 images cannot be used" in result.errors[0]
    assert "rose/0.png is not an image" in result.errors[0] and "truncated" in result.errors[0]
    lines = str(result).splitlines()  # a line for each, as the reasons have commas
    start = lines.index("  - 2 images cannot be used:")
    assert lines[start - 1] == "1 error" and lines[start + 1].startswith("    - rose/0.png is not an image: ")
    assert lines[start + 2].startswith("    - rose/1.png is truncated (") and not lines[start + 3]
    assert str(clean) not in result.errors[0] and result.folder == str(clean)


def test_small_images_are_told(clean: Path) -> None:
    picture(clean / "rose" / "1.png", seed=0, size=(20, 28))
    result = found(clean)
    assert result.ok and "1 image has a side below 32 px (the smallest 20 px)" in "\n".join(result.warnings)


def test_copies(clean: Path) -> None:
    data = (clean / "rose" / "0.png").read_bytes()
    (clean / "rose" / "copy.png").write_bytes(data)
    picture(clean / "daisy" / "other.bmp", seed=10)  # the same pixels in another class and format
    (clean / "daisy" / "twin.png").write_bytes((clean / "daisy" / "3.png").read_bytes())
    result = found(clean)
    names = [{Path(name).name for name in group} for group in result.duplicates]
    assert sorted(map(len, names)) == [2, 3] and {"0.png", "copy.png", "other.bmp"} in names
    assert len(result.conflicts) == 1 and len(result.conflicts[0]) == 3 and result.leaks == ()
    text = "\n".join(result.warnings)
    assert "copies with different labels (1 group): daisy/other.bmp (daisy) = rose/0.png (rose) = " in text
    assert "copies with the same label (1 group): daisy/3.png = daisy/twin.png." in text
    assert result.ok and result.summary == "1 image with different labels, 1 group of duplicates"


def test_everything_that_was_found_is_a_table(clean: Path, tmp_path: Path) -> None:
    for i in range(4):
        (clean / "rose" / f"copy {i}.png").write_bytes((clean / "rose" / f"{i}.png").read_bytes())
    result = found(clean)
    assert "rose/2.png = rose/copy 2.png, ... and 1 more." in result.warnings[0]
    with result.to_csv(tmp_path / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and list(rows[0]) == ["problem", "group", "image", "detail"]
    assert rows[6:] == [
        {"problem": "copies", "group": "4", "image": f"rose/{name}.png", "detail": ""} for name in ("3", "copy 3")
    ]
    with found((np.zeros((0, 32, 32, 3)), [])).to_csv(tmp_path / "none.csv").open() as file:
        assert file.read() == "problem,group,image,detail\n"


def test_images_that_look_like_a_mistake(clean: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(8):
        picture(clean / "daisy" / f"more{i}.png", seed=50 + i, size=(64, 64))
    noise = rng.integers(0, 256, (64, 64, 3)).astype("float32")
    wave = np.broadcast_to(127 + 100 * np.sin(np.arange(64) / 10)[:, None], (64, 64))
    made = {
        "dark": noise / 8,
        "bright": 240 + noise / 18,
        "blurred": np.stack([wave] * 3, axis=-1),
        "without contrast": np.full((64, 64, 3), 128),
        "odd shape": rng.integers(0, 256, (30, 120, 3)),
        "odd size": np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((50, 50, 1))),
    }
    for name, pixels in made.items():
        Image.fromarray(np.rint(pixels).astype("uint8")).save(clean / "rose" / f"{name}.png")
    assert found(clean).findings == ()
    result = audit(clean, image_size=64, check_images=True)
    assert {(finding.kind, *finding.images) for finding in result.findings} == {
        (name, f"rose/{name}.png") for name in made
    }
    text = str(result)
    assert "much larger or smaller than the others (1 image): rose/odd size.png (800x800 px)." in text
    assert result.ok and "1 blurred image, 1 dark image, 1 overexposed image" in result.summary


def test_repeated_rows_are_no_copies(clean: Path) -> None:
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in sorted(clean.rglob("*.png"))]
    table = clean / "labels.csv"
    table.write_text("\n".join(["image,label", *rows, rows[0], rows[0], rows[1], "rose/0.png,daisy"]))
    result = found(table)
    assert result.summary == "1 image with different labels, 2 rows that are repeated"
    assert result.conflicts == ((str(clean / "rose" / "0.png"),),)
    text = "\n".join(result.warnings)
    assert "copies with different labels (1 group): rose/0.png (rose, daisy)." in text
    assert "rows that are repeated (2 rows): daisy/0.png (3 times), daisy/1.png (2 times)." in text


def test_copies_across_splits(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("split")
    clean.rename(root / "train")
    picture(root / "test" / "rose" / "leaked.png", seed=10)
    result = found(root)
    assert result.splits == {"train": 8, "test": 1}
    assert [[Path(name).name for name in group] for group in result.leaks] == [["0.png", "leaked.png"]]
    text = "\n".join(result.warnings)
    assert "copies in more than one split (1 group): train/rose/0.png (train) = test/rose/leaked.png (test)." in text
    assert "no images in test, which can say nothing about these classes: daisy." in text
    assert "train" in str(result) and result.class_counts["test"] == {"daisy": 0, "rose": 1}


def test_names_that_lie_and_files_that_are_left_out(clean: Path) -> None:
    (clean / "rose" / "0.png").rename(clean / "rose" / "0.jpg")
    (clean / "rose" / "readme.md").write_text("hello")
    (clean / "rose" / "1.png").rename(clean / "rose" / "1")
    result = found(clean)
    assert result.wrong_suffix == (f"{clean / 'rose' / '0.jpg'} is a PNG file by content.",)
    assert {Path(path).name for path in result.ignored} == {"readme.md", "1"}
    text = "\n".join(result.warnings)
    assert "files with the suffix of another format (1 file): rose/0.jpg (PNG by content)." in text
    assert "images by their content were left out (1)" in text


def test_classes_that_are_small_or_missing(clean: Path) -> None:
    picture(clean / "tulip" / "0.png", seed=30)
    picture(clean / "tulip" / "copy.png", seed=30)
    picture(clean / "lily" / "0.png", seed=40)
    picture(clean / "lily" / "1.png", seed=41)
    (clean / "orchid").mkdir()
    result = found(clean)
    (told,) = [error for error in result.errors if "no images are of class orchid." in error]
    assert told.endswith(f"The folder {clean / 'orchid'} holds no images: remove it, or put images into it.")
    assert "too few distinct images for training and validation: tulip (1)." in result.errors
    assert any(warning.endswith("which need 3: lily (2).") for warning in result.warnings)
    assert result.class_counts["all"]["tulip"] == 2


def test_classes_whose_names_are_nearly_the_same(clean: Path) -> None:
    for i, name in enumerate(("Rose", "red rose", "red_ rose", "red\u00a0Rose")):
        for n in range(1 + i):
            picture(clean / name / f"{n}.png", seed=200 + 10 * i + n)
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in sorted(clean.rglob("*.png"))]
    (clean / "labels.csv").write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    for result in (found(clean), found(clean / "labels.csv")):
        (told,) = [warning for warning in result.warnings if "may be one class" in warning]
        assert "'Rose' (1 image) and 'rose' (4 images) may be one class" in told
        assert "and so may 'red rose' (2 images) and 'red_ rose' (3 images) and 'red\\xa0Rose' (4 images)" in told
        assert len(result.class_names) == 6 and not any("may be one class" in error for error in result.errors)


def test_imbalance(clean: Path) -> None:
    for i in range(41):
        picture(clean / "daisy" / f"more{i}.png", seed=100 + i)
    assert any("45 images of daisy, but 4 of rose" in warning for warning in found(clean).warnings)


def test_what_finetune_would_raise_is_reported(clean: Path) -> None:
    assert found(clean, 3).errors == (f"num_classes=3, but the folder {clean} has 2 classes: daisy, rose.",)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
    result = found((images, [0, 1, -1, 0, 1, 7]), 2)
    assert result.errors == ("labels must be integers in 0..1; got label -1 at images[2], label 7 at images[5].",)
    assert result.images == 4
    assert (
        "images[1] holds NaN"
        in found((np.where(np.arange(2) == 1, np.nan, 0.5)[:, None, None] * np.ones((32, 32)), [0, 1])).errors[0]
    )
    (clean / "labels.csv").write_text(
        "image,label\nrose/0.png,a\nrose/1.png,a\nnowhere.png,b\ndaisy/0.png,b\ndaisy/1.png,b\n"
    )
    result = found(clean / "labels.csv")
    assert result.images == 4 and "files that do not exist (1;" in result.errors[0]
    empty = found((images[:0], []))
    assert not empty.ok and empty.images == 0 and "0 images, 0 classes" in str(empty)
    single = found((images[:1], ["daisy"]))
    assert str(single).startswith("1 image, 1 class\n") and "1 image, 1 class<" in single._repr_html_()


def test_only_an_unusable_argument_raises(clean: Path) -> None:
    with pytest.raises(DataError, match="a string instead of a dataset"):
        found("no such folder")
    with pytest.raises(ConfigError, match="image_size must be an integer >= 32; got 8"):
        audit(clean, image_size=8)


def test_json(clean: Path) -> None:
    (clean / "rose" / "0.png").write_bytes(b"hello")
    for data in (clean, (np.zeros((3, 32, 32, 3)), np.eye(3)[[0, 1, 1]] + np.eye(3)[[1, 1, 2]])):
        result = found(data).to_dict()
        assert json.loads(json.dumps(result)) == result
        assert result["ok"] is False


def test_several_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    images[5] = images[4]
    labels = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1], [0, 1]])
    result = found((images, labels))
    assert result.multi_label and result.class_counts == {"all": {"0": 3, "1": 4}}
    assert result.conflicts == (("images[4]", "images[5]"),)
    assert result.modes == {"uint8": 6} and result.formats == {}
    assert str(result).startswith("6 images, 2 classes (multi-label)")


def test_many_classes_are_cut_short() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 32, 32, 3), np.uint8)
    text = str(found((images, np.arange(90) % 30)))
    assert "... and 10 more classes with 30 images" in text
    assert max(map(len, text.splitlines())) < 100


def test_sizes_and_their_median(clean: Path) -> None:
    picture(clean / "rose" / "tall.jpg", seed=1, size=(50, 300))
    Image.new("L", (64, 36)).save(clean / "rose" / "grey.png")
    result = found(clean)
    assert (result.widths, result.heights) == ((40, 40, 64), (36, 36, 300))
    assert result.modes == {"RGB": 9, "L": 1} and result.formats == {"PNG": 9, "JPEG": 1}
    assert "40x36 px (median; 40-64 wide, 36-300 high)" in str(result)


def test_scans_that_were_made_already_are_not_made_again(clean: Path) -> None:
    splits = open_dataset(clean, 2)
    assert make_audit(splits, scan(splits["all"], 32)) == found(clean)


def test_progress_is_shown_when_asked(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(clean, image_size=32, verbose=1)
    out, err = capsys.readouterr()
    assert out == "" and "8/8" in err


def test_sign_digits(shared_data: Path) -> None:
    result = audit(shared_data / "sign_digits", 10, image_size=64)
    assert result.ok and result.images == 2062
    assert result.widths == (100, 100, 3024)
