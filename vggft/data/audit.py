"""Find out what is in a dataset and what is wrong with it, before any training."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..caching.cache import Cache
from ..caching.rows import Rows
from ..errors import DataError, counted, short_traceback, some
from ..pictures.formats import suffix_fits
from ..pictures.reading import ImageSize, reading_of
from ..telling.progress import Narrator
from .dataset import Dataset, collect, concatenate
from .findings import Audit as Audit
from .findings import Finding, common_folder, pictures_of, short_names
from .quality import look_over
from .scan import Scan, decode, scan
from .streams import Keep
from .suspects import alike_classes, suspects
from .twins import near_duplicates_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What finds more: of the whole dataset, its pixels, its scan, and the names of its images.
Look: TypeAlias = "Callable[[Dataset, np.ndarray | Rows, Scan, Sequence[str]], Sequence[Finding]]"
IMBALANCE = 10  # ratio of the largest class to the smallest at which accuracy says little about the smallest
EXAMPLES = 3  # of findings in a warning; `Audit.to_csv` writes all of them


@short_traceback
def audit(
    dataset: Any,
    num_classes: int | None = None,
    *,
    image_size: ImageSize = 224,
    resize: str = "squash",
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, int, int] | None = None,
    check_images: bool = False,
    near_duplicates: bool = False,
    verbose: int = 0,
    look: Look | None = None,
) -> Audit:
    """Check every image and every label once, and summarise what is in the data and what is wrong with it.

    Problems that would make `finetune` raise an error are collected in `errors` instead.

    Args:
        dataset: any kind of dataset that `finetune` takes.
        num_classes: the expected number of classes; None accepts any.
        image_size: side in px, or (height, width), to resize to before images are compared; copies have equal resized
            pixels.
        resize, value_range, bands: as for `finetune`.
        check_images: also look for images that are blurred, dark, overexposed, without contrast, or of an odd shape or
            size; this reads every image a second time, those of a stream from the cache.
        near_duplicates: also look for pictures that are saved again, resized, slightly cropped, brightened or mirrored;
            decoded images are then kept in the cache.
        verbose: 0 is silent, 1 shows a progress bar.
        look: finds more in the pixels of all images.

    Returns:
        An `Audit`; `print` it for a summary.

    Raises:
        DataError: `dataset` is not a dataset of any kind.
        ConfigError: `image_size` is below 32, or another argument has an impossible value.
    """
    reading, narrator = reading_of(image_size, resize, value_range, bands), Narrator(verbose)
    cache = Cache() if near_duplicates or look else None
    kept = Cache() if check_images else cache  # as a stream cannot be read a second time
    splits, problems = collect(dataset, num_classes, keep=Keep(reading, kept, narrator))
    if not splits:
        return Audit(0, {}, (), {}, errors=tuple(problems))
    whole = concatenate(list(splits.values()))
    pixels: np.ndarray | Rows = np.zeros(0)
    try:
        if cache is not None:
            pixels, found = decode(whole, reading, cache, narrator)
        else:
            with narrator.bar("read images", len(whole)) as advance:
                found = scan(whole, reading, on_image=advance)
    except DataError as error:  # of streams in different ranges
        return Audit(len(whole), {}, whole.class_names, {}, errors=(*problems, str(error)))
    short = short_names(common_folder(dataset, whole.images), whole.names)
    more: list[Finding] = []
    if near_duplicates:
        split_of = [split for split, part in splits.items() for _ in range(len(part))]
        more += near_duplicates_in(whole, short, split_of, pixels, found.digests)
    more += look(whole, pixels, found, short) if look else ()
    pictures = pictures_of(more, short, pixels) if more else {}
    if check_images:
        with narrator.bar("look at images", len(whole)) as advance:
            more += look_over(whole, found, short, found.reading, advance)
    audited = make_audit(splits, found, problems, data=dataset, quality=more)
    return replace(audited, pictures=pictures)


def make_audit(
    splits: Mapping[str, Dataset],
    found: Scan,
    problems: Sequence[str] = (),
    grouped: bool = False,
    data: Any = None,
    quality: Sequence[Finding] = (),
) -> Audit:
    """Audit datasets that have been scanned already.

    Args:
        splits: name -> dataset; all with the same classes.
        found: the scan of all of them, one after another.
        problems: what is already known to be wrong with the data, as sentences.
        grouped: whether it is known already which images belong together.
        data: the dataset as given, whose folder names in sentences are relative to if it is a path.
        quality: what else was found by looking at the images.
    """
    whole, facts = concatenate(list(splits.values())), found.facts
    split_of = np.repeat(list(splits), [len(part) for part in splits.values()])
    counts = {
        split: dict(zip(whole.class_names, part.class_counts.tolist(), strict=True)) for split, part in splits.items()
    }
    folder = common_folder(data, whole.images)
    short = short_names(folder, whole.names)
    unreadable = tuple(found.problems.values())
    details = [(short[row], told.removeprefix(whole.names[row]).strip(" .")) for row, told in found.problems.items()]
    findings = [Finding("unreadable", (name,), (detail,)) for name, detail in details]
    lying = {
        row: format
        for row, (image, format) in enumerate(zip(whole.images, facts["format"].tolist(), strict=True))
        if isinstance(image, Path) and format and not suffix_fits(image.suffix, format)
    }
    main = "train" if "train" in splits else next(iter(splits))
    class_errors, warnings = _check_classes(splits[main], main, facts["digest"][split_of == main], counts)
    errors = [*problems]
    if unreadable:
        told = f"{counted(len(unreadable), 'image')} cannot be used"
        errors.append(str(DataError.listing(told, (f"{name} {detail}." for name, detail in details), limit=10)))
    errors += class_errors
    copies = _copies(whole, split_of.tolist(), found.digests)
    findings += [Finding(kind, *_named(whole, short, split_of, kind, rows)) for kind, rows in copies]
    findings += [Finding("wrong suffix", (short[row],), (f"{format} by content",)) for row, format in lying.items()]
    findings += quality
    for kind, told in WARNINGS.items():
        if of_kind := [finding for finding in findings if finding.kind == kind]:
            noun = NOUNS.get(kind, "image")
            examples = some(of_kind, limit=5 if kind == "different labels" else EXAMPLES)
            warnings.append(f"{told} ({counted(len(of_kind), noun)}): {examples}.")
    notes = [note.replace(f"{folder}{os.sep}", "") if folder else note for note in whole.notes]
    warnings += [f"{note}." for note in notes if "left out" in note]
    if not grouped:
        labels = [label.tobytes() for label in whole.labels]
        warnings += [f"{each}." for each in suspects(whole.names, whole.metadata, split_of.tolist(), labels)]
    alike = alike_classes(whole.class_names, whole.class_counts.tolist())
    warnings += [f"{told}." for told in (*alike, *found.warnings)]
    readable = facts[facts["digest"] != ""]
    return Audit(
        images=len(whole),
        splits={split: len(part) for split, part in splits.items()},
        class_names=whole.class_names,
        class_counts=counts,
        multi_label=whole.multi_label,
        unreadable=unreadable,
        ignored=whole.ignored,
        wrong_suffix=tuple(f"{whole.names[row]} is a {format} file by content." for row, format in lying.items()),
        widths=_spread(readable["width"]),
        heights=_spread(readable["height"]),
        modes=_counts(readable["mode"]),
        formats=_counts(readable["format"]),
        duplicates=_groups(whole, [rows for _, rows in copies if len({whole.names[row] for row in rows}) > 1]),
        conflicts=_groups(whole, [rows for kind, rows in copies if kind == "different labels"]),
        leaks=_groups(whole, [rows for kind, rows in copies if kind == "in several splits"]),
        notes=(*whole.notes, *found.notes),
        errors=tuple(errors),
        warnings=tuple(warnings),
        findings=tuple(findings),
        folder=folder,
    )


WARNINGS = {  # kind of finding -> how it is told
    "in several splits": "copies in more than one split",
    "different labels": "copies with different labels",
    "copies": "copies with the same label",
    "repeated rows": "rows that are repeated",
    "near-duplicates in several splits": "near-duplicates in more than one split",
    "near-duplicates": "near-duplicates",
    "doubtful label": "labels that may be wrong",
    "wrong suffix": "files with the suffix of another format",
    "blurred": "blurred",
    "dark": "dark",
    "bright": "overexposed",
    "without contrast": "without contrast",
    "odd shape": "much longer than wide, or wider than high",
    "odd size": "much larger or smaller than the others",
}
GROUPS = (
    "in several splits", "different labels", "copies", "near-duplicates in several splits", "near-duplicates",
)  # fmt: skip
NOUNS = {"repeated rows": "row", "wrong suffix": "file", **dict.fromkeys(GROUPS, "group")}  # others: image


def _copies(whole: Dataset, splits: Sequence[str], digests: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Group the rows of equal images, and say what is the matter with each group: a kind of `Finding`."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if digest:
            found[digest].append(row)
    groups = []
    for rows in found.values():
        if len(rows) > 1:
            kinds = []
            if len({whole.labels[row].tobytes() for row in rows}) > 1:
                kinds.append("different labels")
            if len({splits[row] for row in rows}) > 1:
                kinds.append("in several splits")
            if not kinds:
                kinds.append("copies" if len({whole.names[row] for row in rows}) > 1 else "repeated rows")
            groups += [(kind, tuple(rows)) for kind in kinds]
    return groups


def _named(
    whole: Dataset, short: Sequence[str], splits: np.ndarray, kind: str, rows: Sequence[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the images in a group of copies, each once, and what is to be said of them."""
    told: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        labels = whole.label_told(row)
        told[short[row]].append({"different labels": labels, "in several splits": str(splits[row])}.get(kind, ""))
    if kind == "repeated rows":
        return tuple(told), tuple(f"{len(each)} times" for each in told.values())
    details = tuple(", ".join(dict.fromkeys(each)) for each in told.values())
    return tuple(told), details if any(details) else ()


def _groups(whole: Dataset, groups: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the names in each group, each once."""
    return tuple(tuple(dict.fromkeys(whole.names[row] for row in rows)) for rows in dict.fromkeys(groups))


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
