"""What the images and features of a run say about its data, at no cost: doubtful labels, and near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..data.twins import near, signatures, twins
from ..errors import counted
from ..features.cuts import POOLED
from ..features.vectors import embeddings
from ..heads.batches import FeatureBank
from ..network.blocks import HEAD_BLOCKS, pooling_layer
from ..splits.groups import NEAR_DUPLICATES
from ..splits.pool import Pool
from .labels import SURE, LabelIssues, label_issues

CUT = pooling_layer("avg", HEAD_BLOCKS)
LISTED = 0.1  # probability of a wrong label from which an image is in the list, after those that are suggested
FILES = {"doubtful_labels": "labels.csv", "near_duplicates": "near_duplicates.csv"}


@dataclass(frozen=True)
class Doubts:
    """What may be wrong with the data of a run, as rows of tables; nothing was changed by it.

    Args:
        labels: images whose label may be wrong, the surest first: `image`, `split`, `label`, `likely` (the class that
            it looks like), `confidence` (its probability), `wrong` (the probability that the label is wrong), and
            `suggested`, whether to look at it.
        twins: images of groups of near-duplicates: `group`, `image`, `split`, `label`, and `leak`, whether the group is
            in several splits.
    """

    labels: tuple[Mapping[str, Any], ...] = ()
    twins: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return both tables, ready for JSON."""
        return dict(zip(FILES, ([*map(dict, self.labels)], [*map(dict, self.twins)]), strict=True))

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Make it from the output of `to_dict`, also after JSON."""
        return cls(*(tuple(found.get(name, ())) for name in FILES))

    def told(self, run_dir: Path | None) -> list[str]:
        """Say what was found, one sentence for each table.

        Args:
            run_dir: the folder that the tables are in; None if they are in no files.
        """
        files = {name: "" if run_dir is None else f" ({run_dir / file})" for name, file in FILES.items()}
        found = []
        if suggested := [row for row in self.labels if row["suggested"]]:
            told = f"{counted(len(suggested), 'image')} may have a wrong label"
            first = "{image} says {label}, looks like {likely} ({confidence:.2f})".format(**suggested[0])
            found.append(f"{told}{files['doubtful_labels']}; the first: {first}.")
        if leaks := [row for row in self.twins if row["leak"]]:
            both = " ~ ".join(f"{row['image']} ({row['split']})" for row in leaks[:2])
            count, where = len({row["group"] for row in leaks}), files["near_duplicates"]
            told = f"Near-duplicates in several splits{where}: {count}, such as {both}"
            found.append(f"{told}; group={NEAR_DUPLICATES!r} keeps them together.")
        return found


def doubts_of(pool: Pool, bank: FeatureBank) -> Doubts:
    """Look at all images of a run that are in a split; at their labels if their pooled features are there."""
    rows = np.sort(np.concatenate(list(pool.rows.values())))
    split_of = {row: split for split, those in pool.rows.items() for row in those.tolist()}
    label = [words(pool, row) for row in rows]
    digests = [pool.digests[row] for row in rows]
    labels: list[dict[str, Any]] = []
    if POOLED in bank.features and not pool.multi_label:
        units = np.unique(digests, return_inverse=True)[1] if pool.units is None else pool.units[rows]
        vectors = embeddings(np.asarray(bank.inputs(CUT)[rows]), CUT, bank.width)
        given = pool.targets[rows].argmax(axis=1)
        issues = label_issues(vectors, given, len(pool.class_names), units)
        for n in issues.ranked(LISTED):
            told = {"image": pool.names[rows[n]], "split": split_of[rows[n]], "label": label[n]}
            told |= {"likely": pool.class_names[issues.likely[n]], "confidence": round(float(issues.confidence[n]), 4)}
            labels.append(
                told | {"wrong": round(float(issues.wrong[n]), 4), "suggested": bool(issues.wrong[n] >= SURE)}
            )
    alike: list[dict[str, Any]] = []
    for number, group in enumerate(near(twins(signatures(pool.pixels, rows)), digests), start=1):
        leak = len({split_of[rows[n]] for n in group}) > 1
        for n in group:
            told = {"group": number, "image": pool.names[rows[n]], "split": split_of[rows[n]], "label": label[n]}
            alike.append(told | {"leak": leak})
    return Doubts(tuple(labels), tuple(alike))


def sentence(class_names: Sequence[str], label: int, issues: LabelIssues, row: int) -> str:
    """Say what a label is and what its image looks like."""
    return f"says {class_names[label]}, looks like {class_names[issues.likely[row]]} ({issues.confidence[row]:.2f})"


def words(pool: Pool, row: int) -> str:
    """Return the classes of an image."""
    return "|".join(pool.class_names[c] for c in np.flatnonzero(pool.targets[row])) or "nothing"
