"""Combine the splits of a dataset into one pool of decoded images, with the rows of train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..cache import Cache
from ..errors import ConfigError, DataError, some
from ..listings.integers import as_class_names
from ..listings.listing import SPLITS
from ..progress import Narrator
from ..rows import Rows
from .audit import Audit, make_audit
from .dataset import Dataset, concatenate, fingerprint, open_dataset
from .scan import decode
from .splitting import FREE, HELD, KEPT, Known, earlier, split_rows
from .streams import Keep


@dataclass(frozen=True)
class Pool:
    """All images of a run, decoded once.

    Args:
        pixels: (N, S, S, 3) RGB in 0..255, uint8 or float32.
        targets: (N, num_classes) float32, one-hot or multi-hot.
        rows: row numbers of `"train"`, `"validation"` and, if there is one, `"test"`.
        names: name of each image: its path, or "images[3]".
        digests: digest of each image's pixels, "" if it cannot be read; images with equal digests are copies.
        class_names: class names in the order of the columns of `targets`.
        multi_label: whether an image may have several classes, or none.
        audit: the audit of the data.
        notes: what was inferred from the data, as sentences.
        left_out: images that are in no split, each with the reason.
        metadata: the other columns of a CSV or DataFrame, as text, if every split has them; one cell per image.
        drawn: the splits that were drawn as a fraction of the images; the others are the data's own.
    """

    pixels: np.ndarray | Rows
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
    drawn: tuple[str, ...] = ()

    def digests_of(self, *splits: str) -> frozenset[str]:
        """Collect the digests of the images in some splits."""
        return frozenset(self.digests[row] for split in splits for row in self.rows[split])

    @property
    def splits(self) -> dict[str, str]:
        """The split of every image in use, by its digest."""
        return {self.digests[row]: split for split, rows in self.rows.items() for row in rows}

    def table(self) -> list[dict[str, str]]:
        """List the image and split of every row in use."""
        return [{"image": self.names[row], "split": split} for split, rows in self.rows.items() for row in rows]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the images, their order, labels and splits."""
        order = [f"{split}:{self.digests[row]}" for split, rows in self.rows.items() for row in rows]
        targets = np.concatenate([self.targets[rows] for rows in self.rows.values()])
        return fingerprint(order, targets, self.class_names)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Return the labels of some rows: (n,) class indices, or (n, num_classes) of 0 and 1 if `multi_label`."""
        targets = self.targets[rows]
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
    class_names: Any = None,
    known: Known | None = None,
    cache: Cache,
    narrator: Narrator,
) -> Pool:
    """Open, decode and split a dataset.

    Args:
        data: any kind of dataset; its own splits (train/, validation/, test/) are used as they are.
        num_classes: checked against the data.
        validation: a fraction of the images that are not test images, or a dataset.
        test: a fraction of all images, a dataset, or None.
        image_size: side in px that images are squashed to.
        seed: seed of the splits.
        on_bad_image: `"raise"` raises if images cannot be used, `"skip"` leaves them out; both list them.
        class_names: what integer labels stand for, and the order of names; None for what the data says.
        known: what an earlier classifier fixes. Images that it knows stay in their splits, and only new ones are split,
            so that the whole comes as near to the fractions as they allow. If it has test images and the data has no
            test split, None as `test` is its share of test images. Where the data is already split, images that the
            classifier knows from an earlier split are left out of validation and test. If `known.anew`, this holds for
            test images only.
        cache: where decoded images are kept.
        narrator: shows progress.

    Raises:
        ConfigError: a fraction is missing, impossible, or given for a split that the data already has.
        DataError: the data cannot be used; every problem is listed.
        CacheError: the disk has too little free space for the decoded images.
    """
    if on_bad_image not in ("raise", "skip"):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {on_bad_image!r}.")
    known, keep, says = known or Known(), Keep(image_size, cache, narrator), as_class_names(class_names)
    parts, fractions = _open_parts(data, num_classes, {"validation": validation, "test": test}, known, keep, says)
    whole = concatenate(list(parts.values()))
    pixels, found = decode(whole, image_size, cache, narrator)
    problems = list(found.problems.values())
    if problems and on_bad_image == "raise":
        raise DataError.listing(
            f"{len(problems)} of {len(whole)} images cannot be used (on_bad_image='skip' leaves them out)", problems
        )
    part_of = np.repeat(list(parts), [len(part) for part in parts.values()])
    given = {name: np.flatnonzero((part_of == name) & (found.facts["digest"] != "")) for name in parts}
    rows = _split(given, whole, found.digests, fractions, seed, known)
    left_out = [problem.rstrip(".") for problem in problems]
    left_out += _keep_known_apart(rows, found.digests, whole.names, known)
    left_out += _keep_copies_apart(rows, found.digests, whole.names)
    if empty := [split for split, chosen in rows.items() if not len(chosen)]:
        new = " The classifier in start knows all others: add new images." if known.splits else ""
        raise DataError(f"No images are left in {', '.join(empty)} after leaving out what cannot be used.{new}")
    targets = (whole.labels if whole.multi_label else np.eye(whole.num_classes)[whole.labels]).astype("float32")
    absent = ~targets[rows["train"]].any(axis=0)
    if missing := [whole.class_names[c] for c in np.flatnonzero(absent)]:
        raise DataError(f"No usable training images are left of the classes {', '.join(missing)}.")
    pool = Pool(
        pixels=pixels,
        targets=targets,
        rows=rows,
        names=whole.names,
        digests=found.digests,
        class_names=whole.class_names,
        multi_label=whole.multi_label,
        audit=make_audit(parts, found),
        notes=whole.notes,
        left_out=tuple(left_out),
        metadata=whole.metadata,
        drawn=tuple(fractions),
    )
    return replace(pool, notes=(*pool.notes, *_about(known, pool)))


def _open_parts(
    data: Any, num_classes: int, wanted: dict[str, Any], known: Known, keep: Keep, says: tuple[str, ...] | None
) -> tuple[dict[str, Dataset], dict[str, float]]:
    """Open all datasets, by split; also return the fractions that are still to be split off."""
    parts = dict(
        open_dataset(data, num_classes, multi_label=known.multi_label, first=known.class_names, keep=keep, says=says)
    )
    whole = "all" if "all" in parts else "train"
    fractions: dict[str, float] = {}
    for split, value in wanted.items():
        if value is None:
            if split == "validation" and split not in parts:
                raise ConfigError(
                    "validation must be a fraction or a dataset; got None, and the dataset has no validation split."
                )
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 < value < 1:
                raise ConfigError(f"{split} must be a fraction in (0, 1) or a dataset; got {value!r}.")
            if split not in parts:
                fractions[split] = float(value)
            elif split == "test" or value != 0.2:  # the default of validation
                raise ConfigError(f"{split}={value!r} was requested, but the dataset already has a {split} split.")
        elif split in parts:
            raise ConfigError(f"{split} was passed as an argument, but the dataset already has a {split} split.")
        else:
            like = parts[whole]
            opened = open_dataset(value, None, like.class_names, like.multi_label, keep=keep, says=says)
            if not {"all", split} & set(opened):
                raise DataError(f"The dataset passed as {split} has no {split} split; it has {', '.join(opened)}.")
            parts[split] = opened.get("all") or opened[split]
            if parts[split].multi_label != parts[whole].multi_label:
                raise DataError(
                    f"The {split} and the training dataset must both have one label per image, or both several."
                )
    if whole == "all" and ({"validation", "test"} & set(parts)):
        parts = {"train": parts.pop("all"), **parts}
    return parts, fractions


def _split(
    rows: Mapping[str, np.ndarray],
    whole: Dataset,
    digests: tuple[str, ...],
    fractions: dict[str, float],
    seed: int,
    known: Known,
) -> dict[str, np.ndarray]:
    """Split fractions off what is not yet split: test first, so that it does not depend on validation."""
    rows = dict(rows)
    rest = rows.pop("all" if "all" in rows else "train")
    there = [known.splits[digest] for digest in {digests[row] for row in rest} if digest in known.splits]
    if "test" not in rows and "test" in there:
        fractions = {"test": there.count("test") / len(there)} | fractions
    for split in ("test", "validation"):
        if split in fractions:
            copies = [digests[row] for row in rest]
            side = dict.fromkeys(SPLITS[: SPLITS.index(split)], KEPT) | {split: HELD}
            decided = None
            if there and known.decides(split):
                decided = np.array([side.get(known.splits.get(digest, ""), FREE) for digest in copies])
            try:
                kept, held = split_rows(whole.labels[rest], copies, fractions[split], seed, whole.class_names, decided)
            except DataError as error:
                asked = ", ".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
                raise DataError(f"There are too few images for {asked}, at {split}: {error}") from None
            rest, rows[split] = rest[kept], rest[held]
    rows["train"] = rest
    return {split: rows[split] for split in SPLITS if split in rows}


def _keep_known_apart(
    rows: dict[str, np.ndarray], digests: tuple[str, ...], names: tuple[str, ...], known: Known
) -> list[str]:
    """Leave out of a split what an earlier classifier knows from an earlier split, as it would not be judged honestly.

    Changes `rows`; returns a sentence for each image that is left out.
    """
    left_out: list[str] = []
    for split, chosen in rows.items():
        if not known.decides(split):
            continue
        used = [row for row in chosen if earlier(known.splits.get(digests[row], split), split) != split]
        left_out += [
            f"{names[row]} was left out of {split}: it is a {known.splits[digests[row]]} image of the classifier in "
            "start"
            for row in used
        ]
        rows[split] = np.setdiff1d(chosen, used) if used else chosen
    return left_out


def _about(known: Known, pool: Pool) -> tuple[str, ...]:
    """Say what is new to an earlier classifier, and what cannot be judged."""
    if not known.class_names:
        return ()
    new = {split: sum(pool.digests[row] not in known.splits for row in rows) for split, rows in pool.rows.items()}
    counts = ", ".join(f"{count} {split}" for split, count in new.items())
    told = [f"images that are new to the classifier in start: {counts}"]
    if added := pool.class_names[len(known.class_names) :]:
        told.append(f"classes that are new to it: {some(added)}")
    for split, rows in pool.rows.items():
        if absent := [pool.class_names[c] for c in np.flatnonzero(~pool.targets[rows].any(axis=0))]:
            told.append(f"{split} has no images of {some(absent)}")
    return tuple(told)


def _keep_copies_apart(rows: dict[str, np.ndarray], digests: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Leave out of train what is also in validation or test, and out of validation what is also in test.

    Changes `rows`; returns a sentence for each image that is left out.
    """
    left_out: list[str] = []
    later: dict[str, int] = {}  # digest -> a row of a later split
    for split in reversed(list(rows)):
        left_out += [
            f"{names[row]} was left out of {split}: it is the same image as {names[later[digests[row]]]}"
            for row in rows[split]
            if digests[row] in later
        ]
        rows[split] = np.array([row for row in rows[split] if digests[row] not in later], dtype=np.int64)
        later |= {digests[row]: row for row in rows[split]}
    return left_out
