"""Open the datasets of a run, each of its splits: those in the data, and those that were given beside it."""

from __future__ import annotations

from typing import Any

from ..data.dataset import Dataset, open_dataset
from ..data.streams import Keep
from ..errors import ConfigError, DataError
from ..fields import shown, unwrapped
from .splitting import Known


def open_parts(
    data: Any,
    num_classes: int | None,
    wanted: dict[str, Any],
    known: Known,
    keep: Keep,
    says: tuple[str, ...] | None,
) -> tuple[dict[str, Dataset], dict[str, float], bool]:
    """Open all datasets of a run.

    Args:
        data, num_classes: as for `pool.prepare`.
        wanted: what was given as `"validation"` and as `"test"`: a fraction, a dataset, or None.
        known: what an earlier classifier fixes.
        keep: how streams are kept.
        says: class names by position; None for what the data says.

    Returns:
        The datasets by split, the fractions that are still to be split off, and whether `data` had splits of its own.

    Raises:
        ConfigError: a fraction is missing, impossible, or given for a split that the data already has.
        DataError: a dataset cannot be used, or does not go with the others.
    """
    how: dict[str, Any] = {"multi_label": known.multi_label, "first": known.class_names, "keep": keep, "says": says}
    parts = dict(open_dataset(data, num_classes, **how))
    whole, own_splits = "all" if "all" in parts else "train", len(parts) > 1
    fractions: dict[str, float] = {}
    for split, given in wanted.items():
        value = unwrapped(given)
        if value is None:
            if split == "validation" and split not in parts:
                raise ConfigError(
                    "validation must be a fraction or a dataset; got None, and the dataset has no validation split."
                )
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 < value < 1:
                raise ConfigError(f"{split} must be a fraction in (0, 1) or a dataset; got {shown(value)}.")
            if split not in parts:
                fractions[split] = float(value)
            elif split == "test" or value != 0.2:  # the default of validation
                raise ConfigError(f"{split}={shown(value)} was requested, but the dataset already has a {split} split.")
        elif split in parts:
            raise ConfigError(f"{split} was passed as an argument, but the dataset already has a {split} split.")
        else:
            like = parts[whole]
            opened = open_dataset(value, None, like.class_names, like.multi_label, keep=keep, says=says)
            if not {"all", split} & set(opened):
                raise DataError(f"The dataset passed as {split} has no {split} split; it has {', '.join(opened)}.")
            parts[split] = opened.get("all") or opened[split]
    if whole == "all" and ({"validation", "test"} & set(parts)):
        parts = {"train": parts.pop("all"), **parts}
    return parts, fractions, own_splits
