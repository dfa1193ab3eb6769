"""Which images to label next: the uncertain, the unlike, and both; from a classifier and pictures to a page."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import vggft
from vggft.cli.main import app
from vggft.insight.ranking import rank


def test_each_rule_chooses_what_it_is_called() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(50, 8)), rng.normal(size=(5, 8)) + 20, rng.normal(size=(5, 8)) - 20])
    margins = np.linspace(0, 1, 60)  # the first is the most uncertain
    said = np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1)
    known = rng.normal(size=(20, 8))
    assert rank(x, said, known, by="uncertainty", number=5)[0].tolist() == [0, 1, 2, 3, 4]
    far, values = rank(x, said, known, by="diversity", number=2)
    assert {int(row) // 55 for row in far} == {0, 1} and (far >= 50).all() and values[0] >= values[1]
    both = rank(x, said, known, by="both", number=4)[0]
    assert (both < 16).all() and len(set(both.tolist())) == 4  # unlike each other, among the most uncertain
    everything, _ = rank(x, said, None, by="diversity")
    assert sorted(everything.tolist()) == list(range(60))
    assert rank(x, said, known, by="both", number=4)[0].tolist() == both.tolist()


def test_twenty_thousand_images_take_seconds() -> None:
    rng = np.random.default_rng(0)
    x, said = rng.normal(size=(20_000, 64)).astype("float32"), rng.random((20_000, 2))
    begun = time.process_time()
    chosen, _ = rank(x, said, x[:500], by="diversity", number=50)
    assert len(set(chosen.tolist())) == 50 and chosen.min() >= 500 and time.process_time() - begun < 20


@pytest.fixture(scope="module")
def run(stripes: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, labels = stripes
    folder = tmp_path_factory.mktemp("ranked") / "run"
    vggft.finetune((images[:90], labels[:90]), 3, backbone="vgg16_mini", image_size=32, run_dir=folder, verbose=0)
    return folder


def test_a_run_keeps_what_more_images_would_bring(run: Path) -> None:
    growth = vggft.load(run).record.insight.growth
    assert growth is not None and growth.images == 90
    assert str(growth) == json.loads((run / "insight.json").read_text())["growth"]["told"]


def test_images_that_are_known_and_copies_are_not_chosen(run: Path, stripes: tuple[np.ndarray, np.ndarray]) -> None:
    classifier, images = vggft.load(run), stripes[0]
    given = np.concatenate([images[85:100], images[95:100]])  # five known ones, ten new ones, five of these again
    found = classifier.rank(given, by="diversity")
    assert sorted(found.rows.tolist()) == list(range(5, 15)) and len(found.left_out) == 2
    assert len(classifier.rank(given, number=3)) == 3
    assert list(found.to_frame().columns) == ["rank", "image", "predicted", "probability", "reason"]
    with pytest.raises(vggft.ConfigError, match="by must be one of"):
        classifier.rank(given, by="chance")  # type: ignore[arg-type]


def test_the_command_writes_a_list_and_a_page(
    run: Path, stripes: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    (new := tmp_path / "new").mkdir()
    for n, pixels in enumerate(stripes[0][90:110]):
        Image.fromarray(pixels).save(new / f"<b>{n}.png")
    (new / "broken.png").write_bytes(b"no picture")
    csv, page = tmp_path / "next.csv", tmp_path / "next.html"
    command = ["rank", str(new), str(run), "--number", "6", "--csv", str(csv), "--page", str(page), "--json"]
    out = CliRunner().invoke(app, command)
    assert out.exit_code == 1 and "broken.png" in out.stderr  # as it could not be read
    told = json.loads(out.stdout)
    assert len(told["ranking"]) == 6 and len(csv.read_text().splitlines()) == 7
    text = page.read_text()
    assert (
        text.count("data:image/jpeg") == 6 and "<b>0.png" not in text and "http" not in text.replace("http-equiv", "")
    )
    assert CliRunner().invoke(app, command).exit_code != 0  # nothing is overwritten


def test_the_curve_is_a_command(stripes: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    for n, (pixels, label) in enumerate(zip(stripes[0][:90], stripes[1][:90], strict=True)):
        (folder := tmp_path / "data" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    plot = tmp_path / "curve.svg"
    command = ["learning-curve", str(tmp_path / "data"), "--backbone", "vgg16_mini", "--image-size", "32"]
    out = CliRunner().invoke(app, [*command, "--plot", str(plot), "--json"])
    assert out.exit_code == 0, out.output
    told = json.loads(out.stdout)
    assert told["images"] == 90 and told["plot"] == str(plot) and plot.stat().st_size > 1000
