"""The report in a real browser: narrow and wide, light and dark, self-contained; the model card and notebooks."""

from __future__ import annotations

import base64
import dataclasses
import doctest
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.artifact.record import Record
from vggft.classifier import Classifier
from vggft.evaluation.checks import evaluate
from vggft.insight.doubts import Doubts
from vggft.insight.insight import Insight
from vggft.network.blocks import BLOCKS
from vggft.network.description import Description, build
from vggft.report import names as report_names
from vggft.report.gallery import Gallery
from vggft.report.insights import Insights
from vggft.report.report import contents
from vggft.report.sections import learning, network_table
from vggft.report.verdict import baseline, next_steps, sentences
from vggft.telling.display import _environment, percent
from vggft.trust.conformal import HeldOut
from vggft.trust.trust import Trust

EVIL = "<script>document.title='broken'</script>"
# Elements that end beyond the page, except in scrolling boxes; images that did not load; text that is cut off.
LOOK = """
const page = document.documentElement.clientWidth;
const outside = [...document.querySelectorAll('body *')].filter(e =>
  (!e.closest('.scroll, pre') || e.matches('.scroll, pre')) && e.getBoundingClientRect().right > page + 1);
const images = [...document.images];
const texts = [...document.querySelectorAll('h1, h2, h3, p, li, figcaption')];
const cut = texts.filter(e => e.scrollWidth > e.clientWidth + 1);
const boxes = [...document.querySelectorAll('section > *, .columns > *')].map(e => e.getBoundingClientRect());
const overlapping = boxes.filter((a, i) => boxes.some((b, j) => j > i && a.left < b.right - 1 && b.left < a.right - 1 &&
  a.top < b.bottom - 1 && b.top < a.bottom - 1 &&
  !(a.top <= b.top && a.bottom >= b.bottom && a.left <= b.left && a.right >= b.right)));
return {
  scroll: document.documentElement.scrollWidth, page: page, height: document.documentElement.scrollHeight,
  outside: outside.map(e => e.outerHTML.slice(0, 80)), images: images.length,
  unloaded: images.filter(e => !e.complete || !e.naturalWidth).length,
  nameless: images.filter(e => !e.alt.trim()).length, cut: cut.map(e => e.textContent.slice(0, 40)),
  overlapping: overlapping.length, background: getComputedStyle(document.body).backgroundColor, title: document.title,
};
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, stripes: tuple) -> vggft.SearchResult:
    """A search over files whose classes and names try to inject HTML."""
    root = tmp_path_factory.mktemp("report")
    names = [EVIL.replace("/", "-"), "a & b", "雛菊 $x^2$"]  # a folder's name has no slash
    for i, (pixels, label) in enumerate(zip(*stripes, strict=True)):
        folder = root / "data" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i} <b>.png")
    space = vggft.SearchSpace(units=[8, 16], learning_rate=[1e-3, 3e-3])
    settings: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "training": vggft.Training(epochs=4)}
    settings |= {"trials": 4, "algorithm": "random", "test": 0.2, "run_dir": root / "run", "verbose": 0}
    return vggft.search(root / "data", 3, space=space, **settings)


@pytest.fixture(scope="module")
def searched(result: vggft.SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its run directory."""
    return next(tmp_path_factory.getbasetemp().glob("report*/run"))


@pytest.fixture(scope="module")
def page(searched: Path) -> Path:
    return vggft.load(searched / "classifier.keras").report(searched / "report.html")


def look(browser: Any, page: Path, width: int, scheme: str, picture: Path | None = None) -> dict[str, Any]:
    """Open a page as on a phone or a desktop, and return what is wrong with it."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(page.as_uri())
    found = browser.execute_script(LOOK)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    found["asked"] = [url for url in asked if not url.startswith(("data:", page.as_uri()))]
    found["console"] = browser.get_log("browser")
    if picture is not None:
        clip = {"x": 0, "y": 0, "width": width, "height": found["height"], "scale": 1}
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        picture.write_bytes(base64.b64decode(shot["data"]))
    return found


def check(found: dict[str, Any]) -> None:
    assert found["scroll"] <= found["page"], found["outside"]
    assert found["outside"] == [] and found["cut"] == [] and found["overlapping"] == 0
    assert found["asked"] == [] and found["console"] == []
    assert found["unloaded"] == found["nameless"] == 0
    assert "classifier of" in found["title"]


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overlaps_or_is_cut_off_or_asked_for(browser: Any, page: Path, width: int, tmp_path: Path) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        found = look(browser, page, width, scheme, tmp_path / f"{scheme}.png")
        check(found)
        assert found["images"] >= 6 + 2 * 10
        backgrounds.append(found["background"])
        shot = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))
        assert shot.shape[1] == width and shot.std() > 10
        assert (np.median(shot) > 200) == (scheme == "light")
    assert backgrounds[0] != backgrounds[1]


def test_it_prints_on_paper(browser: Any, page: Path) -> None:
    """In print it is dark on white, even if dark pages are preferred."""
    look(browser, page, 1440, "dark")
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    ink = browser.execute_script("return getComputedStyle(document.body).color")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    assert ink == "rgb(29, 31, 36)"


@pytest.mark.slow
def test_a_hundred_classes_can_still_be_read(browser: Any, tmp_path: Path) -> None:
    rng, classes = np.random.default_rng(0), 100
    names = [f"class {i}" for i in range(classes)]
    labels = rng.integers(0, classes, 1500)
    p = np.full((1500, classes), 0.2 / 99)
    p[np.arange(1500), np.where(rng.random(1500) < 0.8, labels, rng.integers(0, classes, 1500))] = 0.8
    description = Description(tuple(names), 32, width=1 / 16)
    sites = ["north" if i % 3 else "south" for i in range(1500)]
    judged = evaluate(labels, p, names, metadata={"site": sites})
    found = Classifier(build(description), description, judged).report(tmp_path / "many.html")
    assert found.stat().st_size < 5_000_000
    for width in (390, 1440):
        check(look(browser, found, width, "light"))
    size = browser.execute_script(
        "const i = [...document.images].find(i => i.alt.startsWith('Confusion')); return [i.width, i.naturalWidth]"
    )
    assert size[0] == size[1] >= 1000  # not squeezed: it scrolls
    text = found.read_text(encoding="utf-8")
    assert "By site" in text and "The 10 classes with the lowest F1" in text and "outside its run directory" in text


def test_what_the_page_says(page: Path, searched: Path) -> None:
    text = page.read_text(encoding="utf-8")
    classifier = vggft.load(searched / "classifier.keras")
    assert page.stat().st_size < 5_000_000
    assert EVIL.replace("/", "-") not in text and "&lt;script&gt;" in text and "<b>.png" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text) and "<script" not in text
    low, high = classifier.evaluation.intervals["accuracy"]
    assert f"<b>{percent(classifier.evaluation['accuracy'])}</b>" in text
    assert f"(95 % interval {100 * low:.1f} to {percent(high)})" in text and f"{low:.3f} to {high:.3f}" not in text
    assert "the most frequent class" in text or "a frequent class" in text
    assert "What to do next" in text and "<code>vggft serve run</code>" in text and "for the whole run" in text
    order = "Results", "Confusion", "Top losses", "Reliability and ranking", "Data", "Learning", "Search"
    places = [text.index(f"<h2>{heading}</h2>") for heading in (*order, "How to repeat it")]
    assert places == sorted(places)
    assert "4 trials, searched for the max of validation accuracy" in text and "(best)" in text
    assert str(searched.parent) not in text and "<h1>data: a classifier of 3 classes</h1>" in text  # relative paths
    for block in ("block1", "block5"):
        assert re.search(rf'<th scope="row">{block}</th>.*?<td>frozen</td>', text)


@pytest.mark.slow
def test_without_a_run_directory_it_says_what_is_missing(
    searched: Path, tmp_path: Path, stripes: tuple, tiny_weights: Path
) -> None:
    """A file saved elsewhere, a classifier that was never evaluated, and one that was never saved."""
    classifier = vggft.load(searched / "classifier.keras")
    classifier.save(tmp_path / "alone.keras")
    alone = vggft.load(tmp_path / "alone.keras")
    text = alone.report(tmp_path / "alone.html").read_text(encoding="utf-8")
    assert "outside its run directory, which contains the audit" in text and "<h2>Search</h2>" not in text
    assert text.count("where the classifier saw") >= 10  # the files are still where they were
    moved = dataclasses.replace(alone.evaluation, names=("gone.png",) * len(alone.evaluation.labels))
    never = Classifier(alone.keras_model, alone.description, moved).report(tmp_path / "moved.html")
    assert "The images are not available" in never.read_text(encoding="utf-8")
    bare = Classifier(alone.keras_model, alone.description).report(tmp_path / "bare.html")
    assert "It has not been evaluated." in bare.read_text(encoding="utf-8")

    judged = alone.evaluation  # six images are enough for 80 %, and too few for 90 %, which is then left out
    alone.trust = Trust(None, HeldOut.of("cross-validation", judged.labels[:6], judged.probabilities[:6]))
    assert [row["promised"] for row in Insights(alone).trust()["sets"]] == [percent(0.8)]

    settings = {"backbone": tiny_weights, "image_size": 32, "training": vggft.Training(epochs=2), "verbose": 0}
    labels = np.stack([stripes[1] == 0, stripes[1] > 0, np.arange(120) % 2 > 0], axis=1).astype(int)
    memory = vggft.finetune((stripes[0], labels), 3, calibrate=True, **settings)
    text = memory.report(tmp_path / "memory.html").read_text(encoding="utf-8")
    assert "There was no test split" in text and "test=0.2" in text and "Calibrated by a temperature" in text
    assert "120 images of 3 classes, with several labels per image" in text and "false negatives" in text
    assert text.count("where the classifier saw") >= 10 and '<th scope="col" class="n">threshold</th>' in text


def test_what_a_notebook_shows_is_escaped(result: vggft.SearchResult, searched: Path) -> None:
    classifier = vggft.load(searched / "classifier.keras")
    found = vggft.audit(searched.parent / "data")
    for shown in (classifier, classifier.evaluation, found):
        html = shown._repr_html_()
        assert "<script>" not in html and "&lt;script&gt;" in html
        assert html.count("<table") == html.count("</table>") and html.count("<div") == html.count("</div>")
    shown = result._repr_html_()
    assert "4 trials" in shown and shown.count("<tr") == 5 and f"test {percent(result.test_score)}" in shown
    assert "accuracy" in classifier._repr_html_() and "120 images, 3 classes" in found._repr_html_()


def test_a_trial_that_failed_is_told_by_the_last_line_of_its_reason() -> None:
    reason = 'Traceback (most recent call last):\n  File "/home/me/a.py"\nMemoryError: no room\n'
    trial = vggft.Trial("0", "failed", {}, (), vggft.Head(), vggft.Training(), reason=reason)
    macros: Any = _environment(True).get_template("macros.html").module
    told = macros.trials_table([trial, trial.to_dict(), dataclasses.replace(trial, reason="")], "1", 9, "accuracy")
    assert told.count("failed: MemoryError: no room<") == 2 and "/home/me" not in told


def test_the_model_card_is_what_a_hub_reads(searched: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    classifier = vggft.load(searched / "classifier.keras")
    read = hub.ModelCard.load(classifier.model_card(tmp_path / "MODEL_CARD.md"))
    assert read.data.library_name == "keras" and read.data.pipeline_tag == "image-classification"
    accuracy = next(each for each in read.data.eval_results if each.metric_type == "accuracy")
    assert accuracy.metric_value == round(classifier.evaluation["accuracy"], 4)
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("data", "test")
    assert "&lt;script&gt;" in read.text and "<script>" not in read.text
    assert str(searched.parent) not in read.content  # where the images lie is nobody's business
    assert "Selected by a search of 4 trials" in read.text
    evil = "![x](http://a)\x1b[31m<img src=x onerror=alert(1)>.h5"
    classifier.description = dataclasses.replace(classifier.description, backbone=evil)
    told = classifier.model_card(tmp_path / "EVIL.md").read_text(encoding="utf-8")
    assert "<img" not in told and "\x1b" not in told and not re.search(r"(?<!\\)\]\(", told) and "&lt;img src=x" in told
    assert read.data.license is None and "whoever publishes the classifier chooses its licence" in read.text


@pytest.mark.parametrize(("column", "name"), [("D", "VGG16"), ("E", "VGG19")])
def test_the_network_is_called_what_it_is(column: str, name: str, tmp_path: Path) -> None:
    description = Description(("cat", "dog"), 32, column=column, width=1 / 64, head=vggft.Head(units=()))
    classifier = Classifier(build(description), description)
    told = classifier.model_card(tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"# {name} of 2 classes" in told and f'"{name.lower()}"' in told and f"\n{name} (arXiv:1409.1556)" in told
    assert f"<p>{name} ({column} of Table 1" in classifier.report(tmp_path / "x.html").read_text(encoding="utf-8")


# The picture and the number of each cell of the confusion matrix in the page, and which text lies outside its box.
MATRIX = """
const cells = [...document.querySelectorAll('.matrix tbody td')];
const box = document.querySelector('.matrix').parentElement, ink = getComputedStyle(document.body).color;
return {
  counts: cells.map(c => Number(c.textContent)), sizes: cells.map(c => parseFloat(getComputedStyle(c).fontSize)),
  empty: getComputedStyle(cells.find(c => !c.textContent)).backgroundColor,
  scrolls: box.scrollWidth - box.clientWidth, names: document.querySelectorAll('.matrix thead th').length,
};
"""


def test_seventeen_classes_fit_a_phone_and_the_dark(browser: Any, tmp_path: Path) -> None:
    """The whole confusion matrix of 17 classes is on a phone's page, with text of at least 11 px and no white cells."""
    rng, classes = np.random.default_rng(0), 17
    labels = np.repeat(np.arange(classes), 12)
    p = np.full((len(labels), classes), 0.3 / (classes - 1))
    p[np.arange(len(labels)), np.where(rng.random(len(labels)) < 0.8, labels, rng.permutation(labels))] = 0.7
    names = tuple(f"a long flower name {i}" for i in range(classes))
    description = Description(names, 32, width=1 / 16)
    judged = evaluate(labels, p, names)
    page = Classifier(build(description), description, judged).report(tmp_path / "flowers.html")
    check(look(browser, page, 390, "dark"))
    found = browser.execute_script(MATRIX)
    assert found["counts"] == judged.confusion_matrix.ravel().tolist() and found["names"] == classes
    assert found["scrolls"] <= 0 and min(found["sizes"]) >= 11
    assert max(map(int, re.findall(r"\d+", found["empty"])[:3])) < 60


def test_the_pictures_of_a_run(tmp_path: Path, tiny_weights: Path, stripes: tuple) -> None:
    """Of arrays, which have no files: some of each class, views by the augmentation, and copies as one."""
    images = np.concatenate([stripes[0][:90], np.repeat(stripes[0][90:91], 30, axis=0)])
    labels = np.concatenate([stripes[1][:90], np.arange(30) % 3])  # one image with every label
    settings: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "training": vggft.Training(epochs=2)}
    settings |= {"augment": vggft.Augment(rotate=20), "run_dir": tmp_path / "run", "verbose": 0}
    test = images[60:], labels[60:]
    vggft.finetune((images[:60], labels[:60]), 3, test=test, **settings)
    read = vggft.load(tmp_path / "run" / "classifier.keras")
    gallery = Gallery(read, read.evaluation)
    assert {name: len(each) for name, each in gallery.of_classes().items()} == {"0": 4, "1": 4, "2": 4}
    views = gallery.augmented()
    assert [len(each) for each in views] == [5, 5, 5] and len({src for each in views for src in each}) == 15
    cards = gallery.mistakes()
    assert max(len(card["names"]) for card in cards) > 5 and len({card["picture"] for card in cards}) > 1
    assert "2 × 2 cells of 16 px" in gallery.cells()  # noqa: RUF001
    for pair in gallery.of_pairs():
        assert pair["pictures"] and all(each["src"] for each in pair["pictures"]) and pair["images"] <= pair["of"]


def test_the_page_shows_what_the_features_say_about_the_data(
    tmp_path: Path, tiny_weights: Path, stripes: tuple
) -> None:
    images, labels = stripes[0], np.array(stripes[1])
    for row in (0, 1, 2, 3):  # of every class one, and one more
        labels[row] = (labels[row] + 1) % 3
    how: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "test": 0.2, "run_dir": tmp_path / "run"}
    classifier = vggft.finetune((images, labels), 3, **how, verbose=0)
    page = classifier.report(tmp_path / "report.html").read_text(encoding="utf-8")
    sections = set(re.findall('<(?:section|h3) id="([a-z]+)"', page))
    assert {"labels", "growth", "map"} <= sections
    for said in ("What each block knows", "looks like <b", "Prediction sets", "label may be wrong", 'href="#labels"'):
        assert said in page, said
    assert page.count("data:image/jpeg") > 100 and len(page) < 5e6
    assert "without epochs. Dots mark the one that was kept" in page and "chosen by folds" in page
    assert "learned from the validation images too" in page and "the head is compared and chosen again" in page
    loaded = vggft.load(tmp_path / "run").report(tmp_path / "again.html").read_text(encoding="utf-8")
    assert loaded.count('class="dot') == page.count('class="dot') >= 100  # out of the files of the run


def test_a_next_step_is_the_same_run_with_one_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    description = Description(("cat", "dog"), 32, width=1 / 16, backbone="vgg16_mini")
    labels = np.arange(60) % 2
    judged = evaluate(labels, np.eye(2)[np.where(np.arange(60) < 52, labels, 1 - labels)], description.class_names)
    artifact = Classifier(build(description), description, judged)
    twins = [
        {"image": f"{n}.png", "split": split, "group": 1, "leak": True} for n, split in enumerate(("train", "test"))
    ]
    words = "vggft finetune my/pets --test=0.2 --backbone vgg16_mini --resume --run-dir runs/pets-1 --seed 3"
    config = {"num_classes": 2, "backbone": "vgg16_mini", "precision": "float32"}
    record = Record(config, {"command": words.split()}, insight=Insight(doubts=Doubts(twins=tuple(twins))))
    monkeypatch.chdir(tmp_path)

    def commands(backbone: str = "vgg16_mini", **more: Any) -> list[str]:
        artifact.description = dataclasses.replace(description, backbone=backbone)
        artifact.record = dataclasses.replace(record, run_dir=Path("runs/pets-1"), **more)
        return [step.command for step in next_steps(artifact, judged) if step.command]

    same = "vggft finetune my/pets --test=0.2"
    assert commands() == [
        f"{same} --backbone vgg16_mini --seed 3 --group near-duplicates",
        f"{same} --seed 3 --backbone vgg16_imagenet",
        "vggft serve runs/pets-1",
    ]
    assert contents(artifact)["command"] == f"{same} --backbone vgg16_mini --seed 3"  # its run directory is taken
    assert commands("vgg16_imagenet")[1] == f"{same} --backbone vgg16_mini --seed 3 --freeze auto"
    tried = {**config, "deeper": True, "group": "(\\d+)"}  # other groups would be lost
    assert commands("vgg16_imagenet", config=tried) == ["vggft serve runs/pets-1"]
    assert doctest.testmod(report_names).attempted >= 7 and not doctest.testmod(report_names).failed
    assert "group='(\\\\d+)'" in artifact.record.call
    told = report_names.Names(Record(environment={"arguments": {"dataset": "/x/birds_v1.0"}}))
    assert told.data == "birds_v1.0"


def test_no_difference_between_validation_and_test_is_no_lower_result() -> None:
    labels = np.arange(60) % 2
    judged = evaluate(labels, np.eye(2)[labels], ("cat", "dog"), split="test")
    for gap, told in ((0.0, "is the same."), (0.0004, "is the same."), (-0.02, "is 2.0 percentage points lower, so")):
        assert any(told in each for each in sentences(Record(summary={"gap": {"accuracy": gap}}), judged))


def test_parameters_of_frozen_convolutions_were_not_learned() -> None:
    frozen = (*BLOCKS[:4], "block5_conv1", "block5_conv2")
    description = Description(("cat", "dog"), 32, width=1 / 16, frozen=frozen)
    rows = {row["name"]: row for row in network_table(Classifier(build(description), description))}
    assert rows["block5"]["learned"] == 9 * 32 * 32 + 32 and rows["block5"]["parameters"] == 3 * (9 * 32 * 32 + 32)
    assert rows["block4"]["learned"] == 0 and rows["logits"]["learned"] == rows["logits"]["parameters"]


def test_what_to_do_next() -> None:
    """The most useful first: an honest test, labels to check, what may raise the score; then how to use it."""
    description = Description(("cat", "dog"), 32, width=1 / 16, backbone="vgg16_mini")
    model = build(description)
    labels = np.arange(60) % 2
    p = np.eye(2, dtype="float32")[np.where(np.arange(60) < 52, labels, 1 - labels)] * 0.94 + 0.03
    told = {}
    for split in ("test", "validation"):
        judged = evaluate(labels, p, description.class_names, split=split)
        told[split] = next_steps(Classifier(model, description, judged), judged)
    assert told["validation"][0].command == "vggft.finetune(..., test=0.2)" and len(told["validation"]) <= 5
    steps = told["test"]
    assert steps[0].words.startswith("8 images were predicted against the label with a certainty of 90% or more")
    assert steps[1].command == "vggft.finetune(..., backbone='vgg16_imagenet')"
    assert steps[-1].command == "vggft serve CLASSIFIER"
    assert any("“cat” was most often taken for “dog” (4 times)" in step.words for step in steps)
    few = labels[:12], p[:12], description.class_names
    alert = evaluate(*few, thresholds=(0.98, 0.02))  # everything is taken for a dog, which is 3 % certain for cats
    artifact = Classifier(model, description, alert)
    assert not any("certainty" in step.words for step in next_steps(artifact, alert))
    artifact.record = dataclasses.replace(artifact.record, pictures={0: np.zeros((32, 32, 3), np.uint8)})
    card = next(each for each in Gallery(artifact, alert).mistakes() if each["picture"])
    assert (card["predicted"], card["seen"], round(card["certainty"], 2)) == ("dog", "dog", 0.03)
    perfect = evaluate(labels, np.eye(2)[labels], description.class_names)
    assert [step.command for step in next_steps(Classifier(model, description, perfect), perfect)][-1:] == [
        "vggft serve CLASSIFIER"
    ]
    epochs = [{"phase": "head", "epoch": n, "loss": 1 / n, "val_loss": 1 / n, "kept": n == 2} for n in (1, 2)]
    caption = learning(Classifier(model, description, judged, epochs))["caption"]
    assert caption.startswith("Dots mark the epoch") and "probes" not in caption and "too" not in caption
    assert baseline(perfect) == "Always answering “cat”, a frequent class, would be right for 50.0\u00a0%."
