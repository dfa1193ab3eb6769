"""What an audit found: counts of images, and everything that is wrong with some, as text of a screen and as a table."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..caching.rows import Rows
from ..errors import counted, short_traceback
from ..extras import data_frame
from ..fields import as_path
from ..files.writing import write_table, write_whole
from ..foreign import visible
from ..telling.display import jpeg_url, legible, render

SHOWN_CLASSES = 20
SHOWN_FINDINGS, SHOWN_IMAGES = 48, 6  # of a kind, and of a group, with pictures
COLUMNS = ("problem", "group", "image", "detail")
SHOWN_SENTENCES = 12  # of errors, and of warnings

# What can be found -> how it is counted, for one and for several.
KINDS = {
    "unreadable": ("image that cannot be read", "images that cannot be read"),
    "different labels": ("image with different labels", "images with different labels"),
    "in several splits": ("image in several splits", "images in several splits"),
    "copies": ("group of duplicates", "groups of duplicates"),
    "repeated rows": ("row that is repeated", "rows that are repeated"),
    "near-duplicates in several splits": (
        "group of near-duplicates in several splits",
        "groups of near-duplicates in several splits",
    ),
    "near-duplicates": ("group of near-duplicates", "groups of near-duplicates"),
    "doubtful label": ("doubtful label", "doubtful labels"),
    "wrong suffix": ("wrong suffix", "wrong suffixes"),
    "blurred": ("blurred image", "blurred images"),
    "dark": ("dark image", "dark images"),
    "bright": ("overexposed image", "overexposed images"),
    "without contrast": ("image without contrast", "images without contrast"),
    "odd shape": ("image of an odd shape", "images of an odd shape"),
    "odd size": ("image of an odd size", "images of an odd size"),
}

PICTURED = (("doubtful label",), ("near-duplicates in several splits", "near-duplicates"))


@dataclass(frozen=True)
class Finding:
    """What is wrong, or may be wrong, with an image or with a group of equal or nearly equal images.

    Args:
        kind: what it is, one of `KINDS`.
        images: the names of the images, relative to the folder of the data.
        details: what is to be said of each of them, such as its label; empty for nothing.
    """

    kind: str
    images: tuple[str, ...]
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        details = self.details or ("",) * len(self.images)
        told = [name + f" ({detail})" * bool(detail) for name, detail in zip(self.images, details, strict=True)]
        sign = " ~ " if self.kind.startswith("near") else " = "
        return sign.join([*told[:4], *["..."] * (len(told) > 4)])


@short_traceback
@dataclass(frozen=True)
class Audit:
    """What is in a dataset. `print` it for a summary; `ok` says whether it can be trained on.

    Attributes:
        images: number of images, without those whose label or file is missing.
        splits: number of images in each split, such as {"all": 2062} or {"train": 50, "test": 10}.
        class_names: class names in the order of the class indices.
        class_counts: split -> class -> number of images. An image with several labels counts for each of them.
        multi_label: whether an image may have several classes, or none.
        unreadable: sentences that name an image and say why it cannot be used.
        ignored: files that were left out: without an image's suffix, or outside class folders.
        wrong_suffix: sentences that name a file whose content has another format than its suffix says.
        widths, heights: (smallest, median, largest) in px, or None if nothing can be read.
        modes: Pillow's pixel formats (dtypes for arrays) -> number of images.
        formats: file formats by content -> number of images.
        duplicates: groups of images with the same pixels after resizing, by name.
        conflicts: groups of duplicates with different labels.
        leaks: groups of duplicates in more than one split.
        notes: what was inferred from the data, as sentences.
        errors: what has to be corrected before training, as sentences.
        warnings: what should be checked, as sentences.
        findings: everything that was found about single images, which `errors` and `warnings` only count.
        folder: what names in sentences and findings are relative to; empty for data without files.
        pictures: name -> a small picture as a data URL, of doubtful labels and near-duplicates, for pages.
    """

    images: int
    splits: dict[str, int]
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    multi_label: bool = False
    unreadable: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    wrong_suffix: tuple[str, ...] = ()
    widths: tuple[int, int, int] | None = None
    heights: tuple[int, int, int] | None = None
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    duplicates: tuple[tuple[str, ...], ...] = ()
    conflicts: tuple[tuple[str, ...], ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    folder: str = ""
    pictures: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    @property
    def summary(self) -> str:
        """The findings in one line, such as "22 groups of duplicates, 6 wrong suffixes"; empty if there are none."""
        counts = Counter(finding.kind for finding in self.findings)
        return ", ".join(f"{counts[kind]} {KINDS[kind][counts[kind] > 1]}" for kind in KINDS if counts[kind])

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of a kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes but the pictures, and `ok`, ready for JSON."""
        found = dataclasses.asdict(dataclasses.replace(self, pictures={}))
        del found["pictures"]
        return {"ok": self.ok, **json.loads(json.dumps(found))}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a dict of `COLUMNS` for each image of each finding."""
        for number, finding in enumerate(self.findings, start=1):
            details = finding.details or ("",) * len(finding.images)
            for name, detail in zip(finding.images, details, strict=True):
                yield dict(zip(COLUMNS, (finding.kind, number, name, detail), strict=True))

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write all findings as a CSV file: a row for each image, and one number for each group of equal images."""
        write_table(path := as_path(path), list(self.rows()), COLUMNS, overwrite)
        return path

    def to_html(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a page that loads nothing, with pictures of doubtful labels and near-duplicates."""
        write_whole(path := as_path(path), self._page("audit_page.html"), overwrite=overwrite)
        return path

    def to_frame(self) -> Any:
        """Return all findings as a `pandas.DataFrame`, with the columns of `to_csv`; it needs pandas."""
        return data_frame(list(self.rows()), COLUMNS, "to_csv")

    def __str__(self) -> str:
        parts = "" if set(self.splits) <= {"all"} else f" ({', '.join(f'{n} {s}' for s, n in self.splits.items())})"
        classes = counted(len(self.class_names), "class")
        lines = [f"{counted(self.images, 'image')}{parts}, {classes}{' (multi-label)' * self.multi_label}"]
        if self.widths and self.heights:
            (narrow, width, wide), (low, height, high) = self.widths, self.heights
            alike = narrow == wide and low == high
            spread = "each" if alike else f"(median; {narrow}-{wide} wide, {low}-{high} high)"
            kinds = [f"{n} {kind}" for counts in (self.formats, self.modes) for kind, n in counts.items()]
            lines.append(f"{width}x{height} px {spread}; {', '.join(kinds)}")
        lines += ["", *self._table()] if self.class_names else []
        for title, sentences in (("error", self.errors), ("warning", self.warnings)):
            if sentences:
                lines += ["", counted(len(sentences), title)]
                for sentence in sentences[:SHOWN_SENTENCES]:  # some are lists, with a line for each image
                    first, *others = sentence.split("\n")
                    lines += [f"  - {first}", *(f"  {line}" for line in others)]
                if rest := sentences[SHOWN_SENTENCES:]:
                    lines.append(f"  ... and {len(rest)} more")
        lines = lines if self.errors or self.warnings else [*lines, "", "No problems found."]
        return "\n".join(map(visible, lines))

    def _repr_html_(self) -> str:
        return self._page("audit.html")

    def _page(self, template: str) -> str:
        shown = [each for each in self.findings if each.images[0] in self.pictures]
        pictured = [[each for each in shown if each.kind in kinds] for kinds in PICTURED]
        return render(template, audit=self, counted=counted, limit=SHOWN_CLASSES, pictured=pictured)

    def _table(self) -> list[str]:
        """Make one line per class: its name, the number of its images in each split, and a bar for their sum."""
        totals = {name: sum(counts[name] for counts in self.class_counts.values()) for name in self.class_names}
        shown = self.class_names[:SHOWN_CLASSES]
        width = min(max(len(name) for name in (*shown, "class")), 30)
        lines = []
        if len(self.splits) > 1:
            lines.append(f"  {'class':{width}}" + "".join(f" {split:>10}" for split in self.splits))
        for name in shown:
            label = visible(name)
            label = label if len(label) <= width else f"{label[: width - 3]}..."
            counts = "".join(f" {self.class_counts[split][name]:>10}" for split in self.splits)
            bar = "#" * max(round(24 * totals[name] / max(1, *totals.values())), totals[name] > 0)
            lines.append(f"  {label:{width}}{counts}  {bar}")
        if rest := self.class_names[SHOWN_CLASSES:]:
            images = counted(sum(totals[name] for name in rest), "image")
            lines.append(f"  ... and {len(rest)} more class{'es' * (len(rest) > 1)} with {images}")
        return lines


def common_folder(data: Any, images: Sequence[Any]) -> str:
    """Return the folder of a dataset that is a path; else the one that holds all files; empty if there is none."""
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        return str(path if path.is_dir() else path.parent)
    folders = [str(path.parent) for path in images if isinstance(path, Path)]
    try:
        return os.path.commonpath(folders) if folders and len(folders) == len(images) else ""
    except ValueError:  # of several drives
        return ""


def short_names(folder: str, names: Sequence[str]) -> list[str]:
    """Return names relative to a folder; empty is none."""
    return [name.removeprefix(f"{folder}{os.sep}") for name in names] if folder else list(names)


def pictures_of(found: Sequence[Finding], short: Sequence[str], pixels: np.ndarray | Rows) -> dict[str, str]:
    """Return small pictures of the images in the first findings of each kind."""
    from PIL import Image

    row_of, seen = {name: row for row, name in enumerate(short)}, Counter[str]()
    shown: dict[str, str] = {}
    for each in found:
        seen[each.kind] += 1
        for name in each.images[:SHOWN_IMAGES] if seen[each.kind] <= SHOWN_FINDINGS else ():
            seen_as = np.clip(np.asarray(pixels[row_of[name]]), 0, 255).astype(np.uint8)
            shown[name] = jpeg_url(legible(Image.fromarray(seen_as), 96))
    return shown
