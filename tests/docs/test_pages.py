"""The documentation is true: its code runs, its commands parse, and what it quotes is in the source."""

from __future__ import annotations

import ast
import builtins
import csv
import dataclasses
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from markdown_it import MarkdownIt
from PIL import Image

import vggft
from vggft.cli.defaults import read_defaults
from vggft.cli.main import app
from vggft.cli.options import DataOptions
from vggft.weightfiles.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
FLOWERS = "rose tulip daisy orchid iris poppy lily aster violet clover lotus thistle".split()


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The code blocks of a page: the number of the first line, and the text."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info.split()[:1] == [language]:
            assert token.map is not None
            yield token.map[0] + 1, token.content


def with_python() -> list[Path]:
    return [page for page in PAGES if any(blocks(page, "python"))]


def picture(path: Path, kind: int, number: int) -> Path:
    """A small picture of a kind: its colours are of the kind, its noise its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour, noise = np.random.default_rng(kind).integers(40, 216, 3), np.random.default_rng((kind, number))
    Image.fromarray((colour + noise.normal(0, 12, (32, 32, 3))).clip(0, 255).astype("uint8")).save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader of the pages is: what they name is there, small.

    The only other thing that is not as for a reader: the backbone is the one that ships with vggft, at 32 px.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    mini = dataclasses.replace(PRESETS["vgg16_mini"], image_size=32)
    for name in ("vgg16_imagenet", "vgg16_mini"):
        monkeypatch.setitem(PRESETS, name, mini)
    rows: list[dict[str, str]] = []
    for kind, name in enumerate(FLOWERS):
        for number in range(12):
            file = picture(Path("flowers_12") / name / f"{name}{number // 2}_{number}.png", kind, number)
            if kind < 10:
                own = Path("flowers") / name / file.name
                own.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, own)
                patient, site = f"p{kind}{number // 3}", "north" if number % 2 else "south"
                rows.append({"photo": str(own), "species": name, "patient_id": patient, "site": site})
        if kind < 10:
            for folder in ("test", "validation", "other_flowers"):
                picture(Path(folder) / name / "1.png", kind, 20 + len(folder))
    for number in range(6):
        picture(Path("new") / f"{number}.png", number, 50)
    for name in ("unknown", "odd", "castle", "new", "rose"):
        picture(Path(f"{name}.jpg"), 3, 60)
    usual = [{"image": row["photo"], "label": row["species"], "site": row["site"]} for row in rows[::5]]
    for name, lines in (("labels.csv", rows), ("new.csv", usual)):
        with Path(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return tmp_path


def run_page(page: Path) -> None:
    """Run the Python of a page, from top to bottom, in one namespace."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for line, source in blocks(page, "python"):
        exec(compile("\n" * line + source, str(page), "exec"), namespace)


def test_the_python_of_every_page_compiles_and_stands_on_its_own() -> None:
    """A page names nothing that it has not made or imported before."""
    for page in with_python():
        known = set(dir(builtins))
        for line, source in blocks(page, "python"):
            tree = ast.parse("\n" * line + source, named(page))
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                    known.add(node.id)
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    known.add(node.name)
                elif isinstance(node, ast.arg):
                    known.add(node.arg)
                elif isinstance(node, ast.alias):
                    known.add((node.asname or node.name).partition(".")[0])
            used = {node.id: node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name)}
            unknown = {name: line for name, line in used.items() if name not in known}
            assert not unknown, f"{named(page)}: {unknown} are not made on this page"


def test_the_one_call_of_the_readme_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_page(ROOT / "README.md")
    assert "accuracy" in capsys.readouterr().out and vggft.load("flowers.keras").class_names[0] == "aster"


@pytest.mark.slow
@pytest.mark.parametrize("page", with_python(), ids=named)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_python_of_a_page_runs(page: Path, here: Path) -> None:
    run = vggft.finetune("flowers", 10, test=0.2, run_dir="runs/flowers-1", verbose=0)
    assert run.evaluation is not None and run.evaluation.split == "test"
    run_page(page)


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The commands of the shell blocks of a page, word for word, without what is around them."""
    for line, source in blocks(page, "sh"):
        for text in source.replace("\\\n", " ").splitlines():
            words = shlex.split(text.replace(";", " ; ").replace("|", " | "), comments=True)
            while words:
                end = next((n for n, word in enumerate(words) if word in ("&&", "||", ";", "|", "&")), len(words))
                yield line, words[:end]
                words = words[end + 1 :]


def test_every_command_of_every_page_is_one(here: Path) -> None:
    """Each `vggft ...` is parsed by the command line itself, and each script that is named has the options."""
    found = 0
    group: Any = typer.main.get_command(app)
    for page in PAGES:
        for line, words in commands(page):
            told = f"{named(page)}:{line}: {shlex.join(words)}"
            if Path(words[0]).name == "vggft" and len(words) > 1:
                found += 1
                paths = [word for word in words[1:] if word.startswith("runs/") or word.endswith((".toml", ".json"))]
                for path in map(Path, paths):  # commands look whether they exist
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch() if path.suffix else path.mkdir(exist_ok=True)
                command, rest = group.commands.get(words[1]), words[2:]
                if words[1] == "cache":
                    command, rest = command.commands.get(words[2]), words[3:]
                if words[1].startswith("-"):
                    assert words[1] in {"--install-completion", "--show-completion", "--help"}, told
                    continue
                assert command is not None, told
                try:
                    command.make_context(words[1], rest)
                except Exception as error:
                    pytest.fail(f"{told}: {error}")
            elif words[0].startswith("python") and len(words) > 1 and words[1].endswith(".py"):
                found += 1
                script = (ROOT / words[1]).read_text(encoding="utf-8")
                for option in (word for word in words if word.startswith("--")):
                    name = option.partition("=")[0].removeprefix("--")
                    assert name in script or name.replace("-", "_") in script, f"{told}: there is no {option}"
    assert found > 50


def test_settings_files_of_the_pages_are_read(tmp_path: Path) -> None:
    found = 0
    for page in PAGES:
        for _, source in blocks(page, "toml"):
            file = tmp_path / "settings.toml"
            file.write_text(source, encoding="utf-8")
            sections = {"head": vggft.Head, "training": vggft.Training, "augment": vggft.Augment}
            found += bool(read_defaults(file, "finetune", sections, {"data": DataOptions}))
    assert found


@cache
def said() -> list[str]:
    """Every text of the source but docstrings, with `...` for what is put in."""
    texts = []
    for path in sorted((ROOT / "vggft").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(p.value if isinstance(p, ast.Constant) else "..." for p in node.values))
    return texts


def quoted() -> Iterator[tuple[str, str]]:
    """The messages in the first columns of the tables of the pages that explain them."""
    for name in ("troubleshooting.md", "data.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        if name == "data.md":
            text = text[text.index("## Errors, and what to do") :]
        for message in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE):
            yield name, message


def test_every_message_that_is_explained_is_still_said() -> None:
    messages = list(quoted())
    assert len(messages) > 60
    for name, message in messages:
        pattern = re.compile(".*?".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
        assert any(map(pattern.search, said())), f"docs/{name} explains {message!r}, which is said nowhere"


def rounds(name: str, point: str, side: str) -> float:
    return statistics.median(json.loads((RESULTS / name).read_text(encoding="utf-8"))[point][side])


@pytest.mark.parametrize(
    ("page", "sides"),
    [
        ("README.md", "default lr5 lr45 keras fastai"),
        ("docs/decisions/0002-defaults.md", "default lr5 lr45 keras fastai"),
        ("docs/decisions/0002-defaults.md", "default block4 auto"),
        ("docs/freezing.md", "default block4 auto"),
    ],
)
def test_tables_of_transfer_are_those_of_the_benchmark(page: str, sides: str) -> None:
    found = json.loads((RESULTS / "transfer.json").read_text(encoding="utf-8"))
    columns = sides.split()
    rows = [line.split("|")[1:-1] for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    rows = [row for row in rows if len(row) == 1 + len(columns)]
    means = []
    for key, words in (("ants_bees", "ants and bees"), ("dtd10", "textures"), ("flowers17", "flowers"), ("", "mean")):
        if key:
            means.append([statistics.mean(found[key][side][str(seed)][0] for seed in range(3)) for side in columns])
        row = next(row for row in rows if row[0].strip().startswith(words))
        shown = [float(re.findall(r"0\.\d{3}", cell)[0]) for cell in row[1:]]
        assert shown == pytest.approx(means[-1] if key else np.mean(means, axis=0), abs=6e-4), row


def test_the_table_of_small_backbones_is_that_of_the_benchmark() -> None:
    found = json.loads((RESULTS / "backbones.json").read_text(encoding="utf-8"))
    lines = (ROOT / "docs/freezing.md").read_text(encoding="utf-8").splitlines()
    for key, words in (("mini_of_0.1", "| the one before"), ("narrow", "| narrowed"), ("vgg16_mini", "| **taught")):
        means = [statistics.mean(found[key][data]) for data in "sign_digits eurosat flowers17 ants_bees dtd10".split()]
        row = next(line for line in lines if line.startswith(words))
        shown = [float(number) for number in re.findall(r"0\.\d{3}", row)]
        assert shown == pytest.approx([*means, statistics.mean(means)], abs=6e-4), row


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("labels.md", "label_errors.md"),
        ("trust.md", "coverage.md"),
        ("trust.md", "strangers.md"),
        ("more_images.md", "growth.md"),
        ("first_hour.md", "first_hour.md"),
        ("first_hour.md", "estimates.md"),
    ],
)
def test_tables_of_pages_are_those_that_a_benchmark_printed(page: str, printed: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for table in (RESULTS / printed).read_text(encoding="utf-8").split("\n\n"):
        assert table.count("\n") >= 6 and table.strip() in text, table.splitlines()[0]


def test_figures_of_speed_are_those_of_the_benchmarks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for number in (
        f"{rounds('feature_store.json', 'second, cold', 'ours'):.2f} passes",
        f"{rounds('feature_store.json', 'second, head', 'ours'):.2f} s",
        f"{rounds('feature_store.json', 'second, search', 'ours'):.1f} s",
        f"{rounds('search_trials.json', 'cached, seconds a trial', 'ours'):.2f} s",
        f"{rounds('search_trials.json', 'cached, seconds a trial', 'keras_tuner'):.1f} s",
    ):
        assert re.search(rf"\b{number}\b", text), f"{number} is in the results, and not in README.md"
    one, two = (rounds("feature_store.json", "processes, seconds", side) for side in ("one", "two"))
    assert f" {one / two:.1f} times " in text


def test_links_of_the_pages_at_the_top_lead_somewhere() -> None:
    """Those of the others are checked where the site is built."""
    for page in PAGES[:3]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in set(vggft.__all__) - {"__version__", "plots"}:
        assert f'id="vggft.{name}"' in api, name
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"?([^\"\s>]+)", page.read_text())
        assert not [each for each in loaded if re.match(r"(?:https?:)?//", each)], page
