"""Find out what is in a dataset and what is wrong with it, before any training."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..display import render
from ..errors import DataError, some
from ..pictures.formats import suffix_fits
from ..pictures.reading import ImageSize, reading_of
from ..progress import Narrator
from .dataset import Dataset, collect, concatenate
from .scan import Scan, scan
from .streams import Keep
from .suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMBALANCE = 10  # ratio of the largest class to the smallest at which accuracy says little about the smallest
SHOWN_CLASSES = 20


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
        """Return all attributes and `ok`, ready for JSON."""
        return {"ok": self.ok, **json.loads(json.dumps(dataclasses.asdict(self)))}

    def __str__(self) -> str:
        parts = "" if set(self.splits) <= {"all"} else f" ({', '.join(f'{n} {s}' for s, n in self.splits.items())})"
        lines = [f"{self.images} images{parts}, {len(self.class_names)} classes{' (multi-label)' * self.multi_label}"]
        if self.widths and self.heights:
            (narrow, width, wide), (low, height, high) = self.widths, self.heights
            alike = narrow == wide and low == high
            spread = "each" if alike else f"(median; {narrow}-{wide} wide, {low}-{high} high)"
            kinds = [f"{n} {kind}" for counts in (self.formats, self.modes) for kind, n in counts.items()]
            lines.append(f"{width}x{height} px {spread}; {', '.join(kinds)}")
        lines += ["", *self._table()] if self.class_names else []
        for title, sentences in (("error", self.errors), ("warning", self.warnings)):
            if sentences:
                lines += ["", f"{len(sentences)} {title}{'s' * (len(sentences) > 1)}"]
                lines += [f"  - {sentence}" for sentence in sentences]
        return "\n".join(lines if self.errors or self.warnings else [*lines, "", "No problems found."])

    def _repr_html_(self) -> str:
        return render("audit.html", audit=self, limit=SHOWN_CLASSES)

    def _table(self) -> list[str]:
        """Make one line per class: its name, the number of its images in each split, and a bar for their sum."""
        totals = {name: sum(counts[name] for counts in self.class_counts.values()) for name in self.class_names}
        shown = self.class_names[:SHOWN_CLASSES]
        width = min(max(len(name) for name in (*shown, "class")), 30)
        lines = []
        if len(self.splits) > 1:
            lines.append(f"  {'class':{width}}" + "".join(f" {split:>10}" for split in self.splits))
        for name in shown:
            label = name if len(name) <= width else f"{name[: width - 3]}..."
            counts = "".join(f" {self.class_counts[split][name]:>10}" for split in self.splits)
            bar = "#" * max(round(24 * totals[name] / max(1, *totals.values())), totals[name] > 0)
            lines.append(f"  {label:{width}}{counts}  {bar}")
        if rest := self.class_names[SHOWN_CLASSES:]:
            lines.append(f"  ... and {len(rest)} more classes with {sum(totals[name] for name in rest)} images")
        return lines


def audit(
    dataset: Any,
    num_classes: int | None = None,
    *,
    image_size: ImageSize = 224,
    resize: str = "squash",
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, int, int] | None = None,
    verbose: int = 0,
) -> Audit:
    """Check every image and every label once, and summarise what is in the data and what is wrong with it.

    Problems that would make `finetune` raise an error are collected in `errors` instead.

    Args:
        dataset: any kind of dataset that `finetune` takes.
        num_classes: the expected number of classes; None accepts any.
        image_size: side in px, or (height, width), to resize to before images are compared; copies have equal resized
            pixels.
        resize, value_range, bands: as for `finetune`.
        verbose: 0 is silent, 1 shows a progress bar.

    Returns:
        An `Audit`; `print` it for a summary.

    Raises:
        DataError: `dataset` is not a dataset of any kind.
        ConfigError: `image_size` is below 32, or another argument has an impossible value.
    """
    reading, narrator = reading_of(image_size, resize, value_range, bands), Narrator(verbose)
    splits, problems = collect(dataset, num_classes, keep=Keep(reading, None, narrator))
    if not splits:
        return Audit(0, {}, (), {}, errors=tuple(problems))
    whole = concatenate(list(splits.values()))
    with narrator.bar("read images", len(whole)) as advance:
        try:
            found = scan(whole, reading, on_image=advance)
        except DataError as error:  # of streams in different ranges
            return Audit(len(whole), {}, whole.class_names, {}, errors=(*problems, str(error)))
        return make_audit(splits, found, problems)


def make_audit(
    splits: Mapping[str, Dataset], found: Scan, problems: Sequence[str] = (), grouped: bool = False
) -> Audit:
    """Audit datasets that have been scanned already.

    Args:
        splits: name -> dataset; all with the same classes.
        found: the scan of all of them, one after another.
        problems: what is already known to be wrong with the data, as sentences.
        grouped: whether it is known already which images belong together.
    """
    whole, facts = concatenate(list(splits.values())), found.facts
    split_of = np.repeat(list(splits), [len(part) for part in splits.values()])
    counts = {
        split: dict(zip(whole.class_names, part.class_counts.tolist(), strict=True)) for split, part in splits.items()
    }
    unreadable = tuple(found.problems.values())
    wrong_suffix = tuple(
        f"{name} is a {format} file by content."
        for image, name, format in zip(whole.images, whole.names, facts["format"].tolist(), strict=True)
        if isinstance(image, Path) and format and not suffix_fits(image.suffix, format)
    )
    main = "train" if "train" in splits else next(iter(splits))
    class_errors, warnings = _check_classes(splits[main], main, facts["digest"][split_of == main], counts)
    errors = [*problems]
    if unreadable:
        errors.append(f"{_count(unreadable, 'image')} cannot be used: {some(unreadable)}")
    errors += class_errors
    duplicates, conflicts, leaks = _copies(whole, split_of.tolist(), found.digests)
    same = [group for group in duplicates if group not in conflicts and group not in leaks]
    for groups, what in (
        (leaks, "in more than one split"),
        (conflicts, "with different labels"),
        (same, "with the same label"),
    ):
        if groups:
            warnings.append(f"copies {what} ({_count(groups, 'image')}): {_groups(groups)}.")
    if wrong_suffix:
        warnings.append(f"{_count(wrong_suffix, 'file')} with the suffix of another format: {some(wrong_suffix)}")
    warnings += [f"{note}." for note in whole.notes if "left out" in note]
    if not grouped:
        labels = [label.tobytes() for label in whole.labels]
        warnings += [f"{each}." for each in suspects(whole.names, whole.metadata, split_of.tolist(), labels)]
    warnings += [f"{told}." for told in found.warnings]
    readable = facts[facts["digest"] != ""]
    return Audit(
        images=len(whole),
        splits={split: len(part) for split, part in splits.items()},
        class_names=whole.class_names,
        class_counts=counts,
        multi_label=whole.multi_label,
        unreadable=unreadable,
        ignored=whole.ignored,
        wrong_suffix=wrong_suffix,
        widths=_spread(readable["width"]),
        heights=_spread(readable["height"]),
        modes=_counts(readable["mode"]),
        formats=_counts(readable["format"]),
        duplicates=duplicates,
        conflicts=conflicts,
        leaks=leaks,
        notes=(*whole.notes, *found.notes),
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


_Groups = tuple[tuple[str, ...], ...]


def _copies(whole: Dataset, splits: Sequence[str], digests: Sequence[str]) -> tuple[_Groups, _Groups, _Groups]:
    """Group the names of equal images: all groups, those with different labels, those in more than one split."""
    found: dict[str, list[tuple[str, str, bytes]]] = defaultdict(list)
    for digest, name, split, label in zip(digests, whole.names, splits, whole.labels, strict=True):
        if digest:
            found[digest].append((name, split, label.tobytes()))
    # The names, splits and labels of each group.
    groups = [tuple(zip(*copies, strict=True)) for copies in found.values() if len(copies) > 1]
    return (
        tuple(names for names, _, _ in groups),
        tuple(names for names, _, labels in groups if len(set(labels)) > 1),
        tuple(names for names, of_copies, _ in groups if len(set(of_copies)) > 1),
    )


def _check_classes(
    part: Dataset, main: str, digests: np.ndarray, counts: Mapping[str, Mapping[str, int]]
) -> tuple[list[str], list[str]]:
    """Find errors and warnings about classes that are small, missing from a split, or much smaller than others.

    Args:
        part: the training images, or all images if they are not split yet.
        main: the name of this split.
        digests: digests of its images.
        counts: split -> class -> number of images.
    """
    errors: list[str] = []
    warnings: list[str] = []
    marks = part.labels.astype(bool) if part.multi_label else np.arange(part.num_classes) == part.labels[:, None]
    distinct = {name: len({*digests[marks[:, c]]} - {""}) for c, name in enumerate(part.class_names)}
    # Every split needs an image of every class: two for train and validation, three with test.
    tiny = [f"{name} ({n})" for name, n in distinct.items() if counts[main][name] and n < (2 if main == "all" else 1)]
    if tiny:
        errors.append(f"too few distinct images for training and validation: {some(tiny)}.")
    if main == "all" and (small := [f"{name} ({n})" for name, n in distinct.items() if n == 2]):
        warnings.append(f"too few distinct images for training, validation and test, which need 3: {some(small)}.")
    for split, of_class in counts.items():
        if split != main and (absent := [name for name, n in of_class.items() if not n]):
            warnings.append(f"no images in {split}, which can say nothing about these classes: {some(absent)}.")
    present = {name: n for name, n in counts[main].items() if n}
    if present and max(present.values()) >= IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        warnings.append(
            f"unbalanced: {present[most]} images of {most}, but {present[least]} of {least};"
            " look at the scores of each class, not at accuracy alone."
        )
    return errors, warnings


def _spread(values: np.ndarray) -> tuple[int, int, int] | None:
    return (int(values.min()), int(np.median(values)), int(values.max())) if len(values) else None


def _counts(values: np.ndarray) -> dict[str, int]:
    """Count the values that are not empty, the most frequent first."""
    return dict(Counter(filter(None, values.tolist())).most_common())


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return some((" = ".join(group[:4]) + " = ..." * (len(group) > 4) for group in groups), limit=10)
