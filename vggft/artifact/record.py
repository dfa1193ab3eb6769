"""How a classifier was made: the content of its run directory, or the same in memory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..evaluation.evaluation import Evaluation
from ..files.archives import read_arrays
from ..files.documents import read_document
from ..files.schemas import Audited, Environment, Found, Insights, Made, Outcome, Summary
from ..insight.insight import Insight
from ..insight.places import Places
from ..run import RunDirectory

PICTURES, PLACES = "top_losses.npz", "places.npz"


def of_same_images(one: Evaluation | None, other: Evaluation | None) -> bool:
    """Whether two evaluations are of the same images in the same order, maybe with other probabilities."""
    if one is None or other is None:
        return False
    same = (one.split, one.names) == (other.split, other.names) and np.array_equal(one.labels, other.labels)
    return same and np.array_equal(one.pictures, other.pictures)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Record:
    """What is known about a run; fields that are not known are empty.

    Args:
        config: the resolved configuration; runs with equal configurations give equal results.
        environment: versions, command line and arguments.
        audit: the audit of the data.
        summary: every evaluation, the gap between validation and test, and the effect of calibration.
        search: the result of a search.
        trials: the trials of a search, in the form of `Trial.to_dict`.
        pictures: row of the evaluation -> (S, S, 3) pixels, for the images with the highest losses, and for the other
            ones that a report shows if they have no files.
        insight: what the frozen features say about the data.
        run_dir: the run directory.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[Mapping[str, Any], ...] = ()
    pictures: Mapping[int, np.ndarray] = field(default_factory=dict)
    insight: Insight = field(default_factory=Insight)
    run_dir: Path | None = None

    def without_images(self) -> Record:
        """Return what still holds if other images are evaluated: not pictures by their rows, and no comparisons."""
        kept = {name: told for name, told in self.summary.items() if name not in ("gap", "caveats")}
        return replace(self, pictures={}, summary=kept)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, over all splits."""
        totals = dict.fromkeys(self.audit.get("class_names", ()), 0)
        for counts in self.audit.get("class_counts", {}).values():
            for name, count in counts.items():
                totals[name] = totals.get(name, 0) + count
        return totals

    @property
    def command(self) -> str:
        """The command line that made the classifier; empty for an interactive session."""
        program, *arguments = self.environment.get("command") or [""]
        name = Path(program).name
        if name in ("vggft", "vggft.exe") or Path(program).parts[-2:] == ("vggft", "__main__.py"):
            return shlex.join(["vggft", *arguments])
        return shlex.join(["python", program, *arguments]) if name.endswith(".py") else ""

    @property
    def call(self) -> str:
        """The `vggft.finetune` call that repeats the run; empty for a search.

        What was decided before training is filled in; a head that was chosen by comparison is chosen again.
        """
        if not self.config or self.search:
            return ""
        given, config = self.environment.get("arguments", {}), self.config

        def shown(name: str) -> str:
            """Write a path or a number as a literal; of other objects only the type is known, so write the name."""
            value = given.get(name)
            is_path = isinstance(value, str) and (Path(value).exists() or len(Path(value).parts) > 1)
            return repr(value) if is_path or not isinstance(value, str) else name

        lines = [f"{shown('dataset')}, num_classes={config['num_classes']}"]
        lines += [f"{name}={shown(name)}" for name in ("validation", "test") if given.get(name) is not None]
        lines += [f"group={config['group']!r}"] if config.get("group") else []
        lines += [f"class_names={given['class_names']!r}"] if "class_names" in given else []
        lines += ["on_bad_image='skip'"] if given.get("on_bad_image") == "skip" else []
        if "start" in config:  # which brings the backbone
            lines.append(f"start={shown('start')}")
        else:
            lines.append(f"backbone={given.get('backbone', config['backbone'])!r}")
        lines.append(f"freeze={('auto' if config.get('deeper') else tuple(config.get('frozen', ())))!r}")
        for name, kind in (("head", "Head"), ("training", "Training"), ("augment", "Augment")):
            value = config.get(name)
            if isinstance(value, Mapping):
                fields = ", ".join(f"{key}={tuple(v) if isinstance(v, list) else v!r}" for key, v in value.items())
                lines.append(f"{name}=vggft.{kind}({fields})")
            elif value is not None:
                lines.append(f"{name}={value}")
        if (config["precision"], config.get("stored_as")) == ("float32", "float16"):  # the choice of "auto"
            config = {**config, "precision": "auto"}
        for name in ("image_size", "resize", "value_range", "bands", "precision", "seed"):
            if name in config:
                lines.append(f"{name}={tuple(config[name]) if isinstance(config[name], list) else config[name]!r}")
        lines += [f"{name}=True" for name in ("calibrate", "tune_thresholds") if config.get(name)]
        lines += [f"{name}={config[name]!r}" for name in ("refit", "time_limit") if name in config]
        return "vggft.finetune(\n    " + ",\n    ".join(lines) + ",\n)"


def write_pictures(run: RunDirectory, pictures: Mapping[int, np.ndarray]) -> None:
    """Keep images that the report shows in the run directory; classifier files do not contain images."""
    rows = list(pictures)
    run.write_arrays(PICTURES, rows=np.array(rows, np.int64), pixels=np.stack([pictures[row] for row in rows]))


def read_record(run_dir: Path) -> Record:
    """Read the record in a run directory.

    Raises:
        RunError: a file in it is damaged; the message names the file and the field.
    """

    def read(name: str, schema: Any) -> dict[str, Any]:
        found: dict[str, Any] = read_document(path, schema, RunError) if (path := run_dir / name).exists() else {}
        return found

    outcomes = sorted(run_dir.glob("trials/trial_*/outcome.json"))
    return Record(
        config=read("config.json", Made),
        environment=read("environment.json", Environment),
        audit=read("audit.json", Audited),
        summary=read("evaluation.json", Summary),
        search=read("search.json", Found),
        trials=tuple(read_document(path, Outcome, RunError, nan=True) for path in outcomes),
        pictures=_read_pictures(run_dir / PICTURES),
        insight=_insight(run_dir / "insight.json", read("insight.json", Insights), Places.read(run_dir / PLACES)),
        run_dir=run_dir,
    )


def _insight(path: Path, found: Mapping[str, Any], places: Places) -> Insight:
    try:
        return Insight.from_dict(found, places)
    except RunError as error:
        raise RunError(f"{path} cannot be read. {error}") from None


def _read_pictures(path: Path) -> dict[int, np.ndarray]:
    if not path.exists():
        return {}
    stored = read_arrays(path, RunError, {"rows": ("i", (None,)), "pixels": ("u", (None, None, None, 3))})
    rows, pixels = stored["rows"], stored["pixels"]
    if len(rows) != len(pixels) or (len(rows) and rows.min() < 0):
        raise RunError(f"{path} has {len(pixels)} images in pixels for {len(rows)} row numbers from 0 on in rows.")
    return dict(zip(rows.tolist(), pixels, strict=True))
