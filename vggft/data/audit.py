"""What is in a dataset, and what is wrong with it, before any training."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..display import render
from ..errors import ConfigError
from ..progress import Narrator
from .dataset import Dataset, collect
from .labels import some
from .reading import MIN_SIDE, suffix_fits
from .scan import Scan, scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMBALANCE = 10  # the largest class over the smallest, from which accuracy says little about the smallest
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Audit:
    """What is in a dataset. `print` it for a summary; `ok` says whether it can be trained on.

    Attributes:
        images: how many there are, without those whose label or file is missing.
        splits: how many there are of each, as {"all": 2062} or {"train": 50, "test": 10}.
        class_names: in the order of the labels.
        class_counts: split -> class -> number of images. With several labels an image counts for each of them.
        multi_label: whether an image may have several classes, or none.
        unreadable: sentences that name a file and say why it cannot be used.
        ignored: files that were left out: not called images, or in no class folder.
        wrong_suffix: files whose content is of another format than their name says, as sentences.
        widths, heights: (smallest, median, largest) in px, or None where nothing can be read.
        modes: Pillow's pixel formats -> number of images; dtypes for arrays.
        formats: file formats by content -> number of images.
        duplicates: groups of images that the network sees as one, by name.
        conflicts: those of the duplicates with different labels.
        leaks: those of the duplicates that lie in more than one split.
        notes: what was inferred from the data.
        errors: what must be mended before training.
        warnings: what should be looked at.
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

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """All attributes and `ok`, ready for JSON."""
        return {"ok": self.ok} | {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        parts = "" if set(self.splits) <= {"all"} else f" ({', '.join(f'{n} {s}' for s, n in self.splits.items())})"
        lines = [f"{self.images} images{parts}, {len(self.class_names)} classes{' (multi-label)' * self.multi_label}"]
        if self.widths and self.heights:
            middle = f"{self.widths[1]}x{self.heights[1]} px"
            spread = f", {self.widths[0]}-{self.widths[2]} wide and {self.heights[0]}-{self.heights[2]} high"
            alike = self.widths[0] == self.widths[2] and self.heights[0] == self.heights[2]
            kinds = [f"{n} {kind}" for counts in (self.formats, self.modes) for kind, n in counts.items() if kind]
            lines.append(f"{middle}{' each' if alike else f' in the middle{spread}'}; {', '.join(kinds)}")
        lines += ["", *self._table()] if self.class_names else []
        for title, sentences in (("error", self.errors), ("warning", self.warnings)):
            if sentences:
                lines += ["", f"{len(sentences)} {title}{'s' * (len(sentences) > 1)}"]
                lines += [f"  - {sentence}" for sentence in sentences]
        return "\n".join(lines if self.errors or self.warnings else [*lines, "", "Nothing is wrong with it."])

    def _repr_html_(self) -> str:
        return render("audit.html", audit=self, limit=SHOWN_CLASSES)

    def _table(self) -> list[str]:
        """One line a class: its name, its images in each split, and a bar for all of them."""
        totals = {name: sum(counts[name] for counts in self.class_counts.values()) for name in self.class_names}
        shown = self.class_names[:SHOWN_CLASSES]
        width = min(max(len(name) for name in (*shown, "class")), 30)
        lines = []
        if len(self.splits) > 1:
            lines.append(f"  {'class':{width}}" + "".join(f" {split:>10}" for split in self.splits))
        for name in shown:
            label = name if len(name) <= width else f"{name[: width - 1]}…"
            counts = "".join(f" {self.class_counts[split][name]:>10}" for split in self.splits)
            bar = "█" * max(round(24 * totals[name] / max(1, *totals.values())), totals[name] > 0)
            lines.append(f"  {label:{width}}{counts}  {bar}")
        if rest := self.class_names[SHOWN_CLASSES:]:
            lines.append(f"  ... and {len(rest)} more classes with {sum(totals[name] for name in rest)} images")
        return lines


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what JSON gives back."""
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def audit(dataset: Any, num_classes: int | None = None, *, image_size: int = 224, verbose: int = 0) -> Audit:
    """Look at every image and every label once, and say what is in the data and what is wrong with it.

    What would make `finetune` raise is collected in `errors` instead.

    Args:
        dataset: any kind of dataset, or a `dataset.Dataset`.
        num_classes: how many classes there should be; by default as many as there are.
        image_size: side in px at which images are compared; copies are found by what the network sees.
        verbose: 0 is silent, 1 shows a progress bar.

    Raises:
        DataError: `dataset` is no dataset at all.
        ConfigError: `image_size` is too small for VGG.
    """
    if not isinstance(image_size, int) or image_size < MIN_SIDE:
        raise ConfigError(f"image_size must be an integer >= {MIN_SIDE}; got {image_size!r}.")
    splits, problems = collect(dataset, num_classes)
    narrator = Narrator(verbose)
    scans = {}
    for name, part in splits.items():
        with narrator.bar("read images" if name == "all" else f"read {name}", len(part)) as advance:
            scans[name] = scan(part, image_size, on_image=advance)
    return make_audit(splits, scans, problems)


def make_audit(splits: Mapping[str, Dataset], scans: Mapping[str, Scan], problems: Sequence[str] = ()) -> Audit:
    """The audit of datasets that have been scanned already.

    Args:
        splits: name -> dataset; all with the same classes.
        scans: what `scan` found, by the same names.
        problems: what is known to be wrong with the data, as sentences.
    """
    first = next(iter(splits.values()), None)
    if first is None:
        return Audit(0, {}, (), {}, errors=tuple(problems))
    unreadable = tuple(problem for found in scans.values() for problem in found.problems.values())
    wrong_suffix = tuple(
        f"{name} is a {format} file by content."
        for split, part in splits.items()
        for image, name, format in zip(part.images, part.names, scans[split].formats, strict=True)
        if isinstance(image, Path) and format and not suffix_fits(image.suffix, format)
    )
    duplicates, conflicts, leaks = _copies(splits, scans)
    counts = {
        split: dict(zip(first.class_names, part.class_counts.tolist(), strict=True)) for split, part in splits.items()
    }
    sizes = [size for found in scans.values() for size in found.sizes if size]
    small_errors, warnings = _classes(splits, scans, counts)

    errors = [*problems]
    if unreadable:
        errors.append(f"{_count(unreadable, 'image')} cannot be used: {some(unreadable)}")
    errors += small_errors
    if leaks:
        warnings.append(f"{_count(leaks, 'image')} in more than one split: {_groups(leaks)}.")
    if conflicts:
        warnings.append(f"{_count(conflicts, 'image')} with different labels on its copies: {_groups(conflicts)}.")
    if same := [group for group in duplicates if group not in conflicts and group not in leaks]:
        warnings.append(f"{_count(same, 'image')} more than once, with the same label: {_groups(same)}.")
    if wrong_suffix:
        warnings.append(f"{_count(wrong_suffix, 'file')} with the suffix of another format: {some(wrong_suffix)}")
    notes = tuple(dict.fromkeys(note for part in splits.values() for note in part.notes))
    warnings += [f"{note}." for note in notes if "left out" in note]
    return Audit(
        images=sum(len(part) for part in splits.values()),
        splits={split: len(part) for split, part in splits.items()},
        class_names=first.class_names,
        class_counts=counts,
        multi_label=first.multi_label,
        unreadable=unreadable,
        ignored=tuple(dict.fromkeys(path for part in splits.values() for path in part.ignored)),
        wrong_suffix=wrong_suffix,
        widths=_spread([width for width, _ in sizes]),
        heights=_spread([height for _, height in sizes]),
        modes=dict(Counter(mode for found in scans.values() for mode in found.modes if mode).most_common()),
        formats=dict(Counter(format for found in scans.values() for format in found.formats if format).most_common()),
        duplicates=duplicates,
        conflicts=conflicts,
        leaks=leaks,
        notes=notes,
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


_Groups = tuple[tuple[str, ...], ...]


def _copies(splits: Mapping[str, Dataset], scans: Mapping[str, Scan]) -> tuple[_Groups, _Groups, _Groups]:
    """Groups of names with one digest: all of them, those with different labels, those in more than one split."""
    found: dict[str, list[tuple[str, str, bytes]]] = {}
    for split, part in splits.items():
        for digest, name, label in zip(scans[split].digests, part.names, part.labels, strict=True):
            if digest:
                found.setdefault(digest, []).append((name, split, label.tobytes()))
    groups = [copies for copies in found.values() if len(copies) > 1]

    def names(chosen: list[list[tuple[str, str, bytes]]]) -> _Groups:
        return tuple(tuple(name for name, _, _ in copies) for copies in chosen)

    return (
        names(groups),
        names([copies for copies in groups if len({label for _, _, label in copies}) > 1]),
        names([copies for copies in groups if len({split for _, split, _ in copies}) > 1]),
    )


def _classes(
    splits: Mapping[str, Dataset], scans: Mapping[str, Scan], counts: Mapping[str, Mapping[str, int]]
) -> tuple[list[str], list[str]]:
    """Errors and warnings about classes that are small, missing from a split, or much smaller than others."""
    errors: list[str] = []
    warnings: list[str] = []
    main = "train" if "train" in splits else next(iter(splits))
    part, digests = splits[main], scans[main].digests
    distinct = {}
    for c, name in enumerate(part.class_names):
        rows = np.flatnonzero(part.labels[:, c] if part.multi_label else part.labels == c)
        distinct[name] = len({digests[row] for row in rows} - {None})
    # A split needs one image of every class on each side; train, validation and test need three.
    tiny = [f"{name} ({n})" for name, n in distinct.items() if counts[main][name] and n < (2 if main == "all" else 1)]
    if tiny:
        errors.append(f"too few distinct images to learn and to judge from: {some(tiny)}.")
    small = [f"{name} ({n})" for name, n in distinct.items() if n == 2] if main == "all" else []
    if small:
        warnings.append(f"too few distinct images for train, validation and test, which takes 3: {some(small)}.")
    for split, of_class in counts.items():
        if split != main and (absent := [name for name, n in of_class.items() if not n]):
            warnings.append(f"no images in {split}, so nothing is known there of: {some(absent)}.")
    present = {name: n for name, n in counts[main].items() if n}
    if present and max(present.values()) >= IMBALANCE * min(present.values()):
        large, least = max(present, key=lambda n: present[n]), min(present, key=lambda n: present[n])
        warnings.append(
            f"unbalanced: {present[large]} images of {large}, but {present[least]} of {least};"
            " look at the scores of each class, not at accuracy alone."
        )
    return errors, warnings


def _spread(values: list[int]) -> tuple[int, int, int] | None:
    return (min(values), int(np.median(values)), max(values)) if values else None


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return some((" = ".join(group[:4]) + " = ..." * (len(group) > 4) for group in groups), limit=10)
