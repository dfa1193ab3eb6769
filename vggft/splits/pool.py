"""Combine the splits of a dataset into one pool of decoded images, with the rows of train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..caching.cache import Cache
from ..caching.rows import Rows
from ..data.audit import Audit, make_audit
from ..data.dataset import Dataset, concatenate, fingerprint
from ..data.scan import decode
from ..data.streams import Keep
from ..data.suspects import alike_classes, suspects
from ..data.twins import signatures, twins
from ..errors import ConfigError, DataError, some
from ..fields import is_word, shown
from ..listings.integers import as_class_names
from ..listings.listing import SPLITS
from ..pictures.arrays import StreamImage
from ..pictures.reading import AS_IT_IS, ImageSize, Reading
from ..telling.progress import Narrator
from .apart import keep_copies_apart, keep_known_apart
from .groups import NEAR_DUPLICATES, described, groups_of, groups_of_twins, key_of, together, told_groups
from .parts import open_parts
from .splitting import Known, split_rows
from .whole_groups import FREE, HELD, KEPT


@dataclass(frozen=True)
class Pool:
    """All images of a run, decoded once.

    Args:
        pixels: (N, H, W, 3) RGB in 0..255, uint8 or float32.
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
        groups: the group of each image, such as its patient; empty if there are none.
        units: (N,) int64, equal for images that no split may divide, of one group or copies; None without groups.
        grouping: what made the groups, and their digest, ready for JSON; empty without groups.
        weights: (N,) float32 weights in the loss, 1 on average over the training images; None if all are equal.
        reading: how the pictures were read, with the value ranges that were decided over all of them.
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
    groups: tuple[str, ...] = ()
    units: np.ndarray | None = None
    grouping: Mapping[str, Any] = field(default_factory=dict)
    reading: Reading = AS_IT_IS
    weights: np.ndarray | None = None

    def digests_of(self, *splits: str) -> frozenset[str]:
        """Collect the digests of the images in some splits."""
        return frozenset(self.digests[row] for split in splits for row in self.rows[split])

    @property
    def splits(self) -> dict[str, str]:
        """The split of every image in use, by its digest, and of every group, by its key."""
        images = {self.digests[row]: split for split, rows in self.rows.items() for row in rows}
        if not self.groups:
            return images
        return images | {key_of(self.groups[row]): split for split, rows in self.rows.items() for row in rows}

    def table(self) -> list[dict[str, str]]:
        """List the image and split of every row in use, and its group if there are any."""
        return [self.cells(row, split) for split, rows in self.rows.items() for row in rows]

    def cells(self, row: int, split: str) -> dict[str, str]:
        """Return what a table says about an image in a split."""
        return {"image": self.names[row], "split": split} | ({"group": self.groups[row]} if self.groups else {})

    def units_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what has to stay together among some rows, as splits and folds take it; None without groups."""
        return None if self.units is None else self.units[rows]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the images, their order, labels and splits."""
        order = [f"{split}:{self.digests[row]}" for split, rows in self.rows.items() for row in rows]
        targets = np.concatenate([self.targets[rows] for rows in self.rows.values()])
        weights = None if self.weights is None else np.concatenate([self.weights[rows] for rows in self.rows.values()])
        return fingerprint(order, targets, self.class_names, weights)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Return the labels of some rows: (n,) class indices, or (n, num_classes) of 0 and 1 if `multi_label`."""
        targets = self.targets[rows]
        return targets.astype("uint8") if self.multi_label else targets.argmax(axis=1)


def prepare(
    data: Any,
    num_classes: int | None,
    *,
    validation: Any = 0.2,
    test: Any = None,
    group: Any = None,
    reading: Reading | ImageSize,
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
        num_classes: checked against the data; None reads it off the data, which a note says.
        validation: a fraction of the images that are not test images, or a dataset.
        test: a fraction of all images, a dataset, or None.
        group: which images belong together, as `groups.groups_of` has it; no split divides them. An array is in the
            order of the data, followed by that of `validation` and of `test` if these are datasets.
        reading: how pictures become pixels; the ranges that it leaves open are decided by all of them.
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
    if not is_word(on_bad_image, ("raise", "skip")):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {shown(on_bad_image)}.")
    known, keep, says = known or Known(), Keep(reading, cache, narrator), as_class_names(class_names)
    wanted = {"validation": validation, "test": test}
    parts, fractions, own_splits = open_parts(data, num_classes, wanted, known, keep, says)
    whole = concatenate(list(parts.values()))
    pixels, found = decode(whole, reading, cache, narrator)
    problems = list(found.problems.values())
    if problems and on_bad_image == "raise":
        raise DataError.listing(
            f"{len(problems)} of {len(whole)} images cannot be used"
            " (on_bad_image='skip', --on-bad-image skip, leaves them out)",
            problems,
        )
    part_of = np.repeat(list(parts), [len(part) for part in parts.values()])
    given = {name: np.flatnonzero((part_of == name) & (found.facts["digest"] != "")) for name in parts}
    groups: tuple[str, ...] = ()
    if group is not None:
        if is_word(group, (NEAR_DUPLICATES,)) and NEAR_DUPLICATES not in whole.metadata:
            groups = groups_of_twins(found.digests, twins(signatures(pixels)))
        else:
            groups = groups_of(group, whole.names, whole.metadata, *_no_order(parts, own_splits))
    units = together(found.digests, groups) if groups else None
    before = known.fixed(found.digests, groups, units)
    rows = _split(given, whole, found.digests, fractions, seed, known, before, units)
    left_out = [problem.rstrip(".") for problem in problems]
    left_out += keep_known_apart(rows, found.digests, whole.names, known, before)
    left_out += keep_copies_apart(rows, found.digests, whole.names, groups, units)
    if empty := [split for split, chosen in rows.items() if not len(chosen)]:
        new = " The classifier in start knows all others: add new images." if known.splits else ""
        new += " Those of its groups are in a later split." if groups else ""
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
        audit=make_audit(parts, found, grouped=group is not None, data=data),
        notes=(*whole.notes, *found.notes, *found.warnings),
        left_out=tuple(left_out),
        metadata=whole.metadata,
        drawn=tuple(fractions),
        groups=groups,
        units=units,
        grouping={"group": described(group), "groups_digest": key_of("\n".join(groups))} if groups else {},
        reading=found.reading,
        weights=None if whole.weights is None else whole.weights / whole.weights[rows["train"]].mean(),
    )
    notes = [] if num_classes is not None else [_read_off(pool.class_names)]
    notes += alike_classes(whole.class_names, whole.class_counts.tolist())
    if groups:
        notes.append(told_groups([groups[row] for rows in pool.rows.values() for row in rows]))
    else:
        labels = [label.tobytes() for label in whole.labels]
        notes += suspects(whole.names, whole.metadata, part_of.tolist(), labels)
    return replace(pool, notes=(*pool.notes, *notes, *_about(known, pool)))


def _read_off(class_names: tuple[str, ...]) -> str:
    """Say what number of classes was read off the data."""
    return f"num_classes={len(class_names)} was read off the data: {some(class_names, limit=10)}"


def _no_order(parts: Mapping[str, Dataset], own_splits: bool) -> tuple[str, str]:
    """Say why a user cannot know the names of the images, and why not their order; empty where they can."""
    if any(isinstance(part.images[0], StreamImage) for part in parts.values() if len(part)):
        return ("images of a tf.data.Dataset or PyDataset have no names, and may be shuffled",) * 2
    return "", "the dataset has splits of its own, in whose order its images are read" if own_splits else ""


def _split(
    rows: Mapping[str, np.ndarray],
    whole: Dataset,
    digests: tuple[str, ...],
    fractions: dict[str, float],
    seed: int,
    known: Known,
    before: Sequence[str],
    units: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Split fractions off what is not yet split: test first, so that it does not depend on validation."""
    rows = dict(rows)
    rest = rows.pop("all" if "all" in rows else "train")
    there = [split for split in {digests[row]: before[row] for row in rest}.values() if split]
    if "test" not in rows and "test" in there:
        fractions = {"test": there.count("test") / len(there)} | fractions
    for split in ("test", "validation"):
        if split in fractions:
            copies = [digests[row] for row in rest]
            side = dict.fromkeys(SPLITS[: SPLITS.index(split)], KEPT) | {split: HELD}
            decided = None
            if there and known.decides(split):
                decided = np.array([side.get(before[row], FREE) for row in rest])
            try:
                kept, held = split_rows(
                    whole.labels[rest],
                    copies,
                    fractions[split],
                    seed,
                    whole.class_names,
                    decided,
                    None if units is None else units[rest],
                )
            except DataError as error:
                asked = ", ".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
                raise DataError(f"There are too few images for {asked}, at {split}: {error}") from None
            rest, rows[split] = rest[kept], rest[held]
    rows["train"] = rest
    return {split: rows[split] for split in SPLITS if split in rows}


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
