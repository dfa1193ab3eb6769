"""From any kind of dataset to one pool of decoded images and the rows of it that are train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..cache import Cache
from ..errors import ConfigError, DataError
from ..progress import Narrator
from .audit import Audit, make_audit
from .dataset import Dataset, fingerprint, open_dataset
from .scan import decode
from .sources import SPLITS
from .splitting import split_rows


@dataclass(frozen=True)
class Pool:
    """All images of a run, decoded once.

    Args:
        pixels: (N, S, S, 3) RGB in 0..255, uint8 or float32, memory-mapped.
        targets: (N, num_classes) float32, one-hot or multi-hot.
        rows: row numbers of `"train"`, `"validation"` and, if there is one, `"test"`.
        names: what each image is called.
        digests: of the decoded pixels; images with equal digests are one image.
        notes: what was inferred from the data.
        metadata: further columns of a CSV or DataFrame that every part has, as text, one cell an image.
        left_out: images that no split has, each with the reason.
    """

    pixels: np.ndarray
    targets: np.ndarray
    rows: dict[str, np.ndarray]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    class_names: tuple[str, ...]
    multi_label: bool
    audit: Audit
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def digests_of(self, *splits: str) -> frozenset[str]:
        """The digests of the images of some splits."""
        return frozenset(self.digests[row] for split in splits for row in self.rows[split])

    def table(self) -> list[dict[str, str]]:
        """Which image is in which split."""
        return [{"image": self.names[row], "split": split} for split, rows in self.rows.items() for row in rows]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over images, order, labels and splits."""
        order = [f"{split}:{self.digests[row]}" for split, rows in self.rows.items() for row in rows]
        targets = np.concatenate([self.targets[rows] for rows in self.rows.values()])
        return fingerprint(order, targets, self.class_names)

    def labels(self, split: str) -> np.ndarray:
        """(n,) class numbers of a split, or (n, num_classes) 0/1 where images have several labels."""
        targets = self.targets[self.rows[split]]
        return targets.astype("uint8") if self.multi_label else targets.argmax(axis=1)


def prepare(
    data: Any,
    num_classes: int,
    *,
    validation: Any = 0.2,
    test: Any = None,
    image_size: int,
    seed: int = 0,
    on_bad_image: Literal["raise", "skip"] = "raise",
    cache: Cache,
    narrator: Narrator,
) -> Pool:
    """Open, decode and split a dataset.

    Args:
        data: any kind of dataset; parts that it brings (train/, validation/, test/) are used as they are.
        validation: a fraction of what is not test, or a dataset.
        test: a fraction of all, a dataset, or None.
        on_bad_image: `"raise"` lists all images that cannot be used, `"skip"` leaves them out and lists them.
        cache: where decoded images are kept.

    Raises:
        DataError: everything that is wrong with the data, before anything is computed.
        CacheError: the disk has too little room for the decoded images.
    """
    if on_bad_image not in ("raise", "skip"):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {on_bad_image!r}.")
    parts, fractions = _open_parts(data, num_classes, {"validation": validation, "test": test})
    pixels, scans = decode(parts, image_size, cache, narrator)
    audit = make_audit(parts, scans)
    problems = [problem for found in scans.values() for problem in found.problems.values()]
    if problems and on_bad_image == "raise":
        raise DataError.listing(
            f"{len(problems)} of {len(pixels)} images cannot be used (on_bad_image='skip' leaves them out)", problems
        )
    notes = [note for part in parts.values() for note in part.notes]
    left_out = [problem.rstrip(".") for problem in problems]

    first = next(iter(parts.values()))
    labels = np.concatenate([part.labels for part in parts.values()])
    digests = tuple(digest or "" for found in scans.values() for digest in found.digests)
    rows, start = {}, 0
    for name, part in parts.items():
        good = [start + i for i in range(len(part)) if i not in scans[name].problems]
        rows[name] = np.array(good, dtype=np.int64)
        start += len(part)
    rows = _split(rows, labels, digests, fractions, seed, first.class_names)
    names = tuple(name for part in parts.values() for name in part.names)
    left_out += _keep_duplicates_apart(rows, digests, names)
    _check_rows(rows, labels, first)
    targets = labels.astype("float32") if first.multi_label else np.eye(first.num_classes, dtype="float32")[labels]
    return Pool(
        pixels=pixels,
        targets=targets,
        rows=rows,
        names=names,
        digests=digests,
        class_names=first.class_names,
        multi_label=first.multi_label,
        audit=audit,
        notes=tuple(dict.fromkeys(notes)),
        left_out=tuple(left_out),
        metadata={
            column: tuple(cell for part in parts.values() for cell in part.metadata[column])
            for column in first.metadata
            if all(column in part.metadata for part in parts.values())
        },
    )


def _open_parts(data: Any, num_classes: int, wanted: dict[str, Any]) -> tuple[dict[str, Dataset], dict[str, float]]:
    """The datasets that were given, by the part they are, and the fractions that are still to be split off."""
    parts = dict(open_dataset(data, num_classes))
    whole = "all" if "all" in parts else "train"
    fractions: dict[str, float] = {}
    for split, value in wanted.items():
        if value is None:
            if split == "validation" and split not in parts:
                raise ConfigError("validation must be a fraction or a dataset; got None, and the dataset brings none.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 < value < 1:
                raise ConfigError(f"{split} must be a fraction in (0, 1) or a dataset; got {value!r}.")
            if split not in parts:
                fractions[split] = float(value)
            elif split == "test" or value != 0.2:  # the default of validation
                raise ConfigError(f"{split}={value!r} was asked for, but the dataset brings a {split} part itself.")
        elif split in parts:
            raise ConfigError(f"{split} was given as an argument, but the dataset brings a {split} part itself.")
        else:
            like = parts[whole]
            opened = open_dataset(value, class_names=like.class_names, multi_label=like.multi_label)
            if not {"all", split} & set(opened):
                raise DataError(f"The dataset given as {split} has no part of that name; it has {', '.join(opened)}.")
            parts[split] = opened.get("all") or opened[split]
            if parts[split].multi_label != parts[whole].multi_label:
                raise DataError(
                    f"The {split} dataset and the training dataset must both have one label an image, or several."
                )
    if whole == "all" and ({"validation", "test"} & set(parts)):
        parts = {"train": parts.pop("all"), **parts}
    return parts, fractions


def _split(
    rows: dict[str, np.ndarray],
    labels: np.ndarray,
    digests: tuple[str, ...],
    fractions: dict[str, float],
    seed: int,
    class_names: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Split fractions off what is not yet split: test first, so that it is the same whatever validation is."""
    rows = dict(rows)
    rest = rows.pop("all", None)
    if rest is None:
        rest = rows.pop("train")
    for split in ("test", "validation"):
        if split in fractions:
            try:
                kept, held = split_rows(
                    labels[rest], [digests[row] for row in rest], fractions[split], seed, class_names
                )
            except DataError as error:
                asked = ", ".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
                raise DataError(f"The images are too few for {asked}, at {split}: {error}") from None
            rest, rows[split] = rest[kept], rest[held]
    rows["train"] = rest
    return {split: rows[split] for split in SPLITS if split in rows}


def _keep_duplicates_apart(rows: dict[str, np.ndarray], digests: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Promise 6 for parts that the user split: leave out of train what is in validation or test, and so on."""
    left_out: list[str] = []
    home: dict[str, int] = {}  # digest -> an image in a split that was taken before
    for split in reversed(list(rows)):
        left_out += [
            f"{names[row]} was left out of {split}: it is the same image as {names[home[digests[row]]]}"
            for row in rows[split]
            if digests[row] in home
        ]
        rows[split] = np.array([row for row in rows[split] if digests[row] not in home], dtype=np.int64)
        home |= {digests[row]: row for row in rows[split]}
    return left_out


def _check_rows(rows: dict[str, np.ndarray], labels: np.ndarray, first: Dataset) -> None:
    empty = [split for split, chosen in rows.items() if not len(chosen)]
    if empty:
        raise DataError(f"No images are left in {', '.join(empty)} after leaving out what cannot be used.")
    trained = labels[rows["train"]]
    counts = trained.sum(axis=0) if first.multi_label else np.bincount(trained, minlength=first.num_classes)
    missing = [name for name, count in zip(first.class_names, counts, strict=True) if not count]
    if missing:
        raise DataError(f"No usable training images are left of {', '.join(missing)}.")
