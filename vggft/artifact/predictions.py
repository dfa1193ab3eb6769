"""What a classifier says about some images: probabilities, labels, and what could not be read, by image."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..augment import Augment
from ..caching.cache import Cache
from ..data.dataset import open_dataset
from ..data.scan import decode
from ..data.streams import Keep
from ..errors import ConfigError, DataError
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..fields import as_path, is_word, shown
from ..files.writing import write_whole
from ..foreign import guarded, guarded_row
from ..listings.integers import as_class_names
from ..network.assembly import Network
from ..network.description import STRANGE, Classification, Description
from ..pictures.arrays import as_sequence
from ..telling.progress import Narrator
from ..trust.conformal import Method, PredictionSets
from ..trust.strangers import SHARE, Strangers
from .inputs import inputs_of, read_parts
from .known import KeptFeatures, look_at_images, views_of

OWN = ("image", "label", "probability")  # columns of a table before those of the classes
LEARNED_FROM = "The classifier was trained or chosen on"  # beginning of the warning of `evaluation_of`


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for N images, in their order.

    Attributes:
        names: of the images: their files, or "images[3]".
        probabilities: (N, num_classes) float32; NaN for an image that cannot be read.
        found: the prediction for each image; None for one that cannot be read.
        class_names: names of the columns of `probabilities`.
        errors: row -> a sentence that names an image and says why it cannot be read; None if this would have raised.
        thresholds: class -> the probability from which it is predicted; empty where the most probable class is.
        distances: (N,) float32, above 1 for images of none of the classes, NaN for those that cannot be read; None if
            that was not asked for.
        sets: the labels in the prediction set of each image; None if that was not asked for.
    """

    names: Sequence[str]
    probabilities: np.ndarray
    found: Sequence[Classification | None]
    class_names: Sequence[str]
    errors: Mapping[int, str] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    distances: np.ndarray | None = None
    sets: Sequence[tuple[str, ...]] | None = None

    def with_sets(self, limit: float, method: Method) -> Predictions:
        """Add the prediction sets of classes whose scores are at most `limit`."""
        return replace(self, sets=PredictionSets.of(self, limit, 0.0, method).labels)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table: image, label (several joined by "|"), probability, classes, and what was asked for.

        That is stranger and distance, set, and error if images may be left out.
        """
        more = ("stranger", "distance") * (self.distances is not None)
        more += ("set",) * (self.sets is not None) + ("error",) * (self.errors is not None)
        classes = (f"class {name}" if name in (*OWN, *more) else name for name in self.class_names)
        return (*OWN, *classes, *more)

    def line(self, row: int, top: int) -> str:
        """Describe an image that was read in one line: the `top` labels, those that are not predicted after "not"."""
        one = self.found[row]
        assert one is not None
        strange = STRANGE if one.stranger else ""
        if self.sets is not None:
            shown = dict(zip(one.labels, one.probabilities, strict=True))
            inside = ", ".join(f"{label} ({shown[label]:.1%})" for label in self.sets[row])
            return f"{self.names[row]}: {strange}{inside}"
        told = [f"{label} ({p:.1%})" for label, p in zip(one.labels[:top], one.probabilities, strict=False)]
        if self.thresholds:
            present = [label in one.present for label in one.labels[:top]]
            others = ", ".join(words for words, there in zip(told, present, strict=True) if not there)
            told = [words for words, there in zip(told, present, strict=True) if there] or ["nothing"]
            return f"{self.names[row]}: {strange}{', '.join(told)}" + (f"; not {others}" if others else "")
        return f"{self.names[row]}: {strange}{', '.join(told)}"

    @property
    def rule(self) -> str:
        """From which probability on labels are predicted, in a sentence; empty if the most probable one always is."""
        values = list(self.thresholds.values())
        if not values:
            return ""
        usual = max(set(values), key=values.count)
        if values.count(usual) == 1 and len(values) > 1:
            told = ", ".join(f"{name} {cut:.1%}" for name, cut in self.thresholds.items())
            return f"Labels are predicted from these probabilities on: {told}."
        others = [f"{name} from {cut:.1%}" for name, cut in self.thresholds.items() if cut != usual]
        return f"A label is predicted from {usual:.1%} on" + (f", but {', '.join(others)}." if others else ".")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a dict of the `columns` for each image; what is not known of one that cannot be read is None."""
        errors = self.errors or {}
        for row, (name, one) in enumerate(zip(self.names, self.found, strict=True)):
            label = None if one is None else "|".join(one.present)
            values = [None if one is None else float(p) for p in self.probabilities[row]]
            best = None if one is None else float(self.probabilities[row].max())
            more: list[Any] = []
            if self.distances is not None:
                more += [None, None] if one is None else [one.stranger, one.distance]
            if self.sets is not None:
                more.append(None if one is None else "|".join(self.sets[row]))
            cells = (name, label, best, *values, *more, *([] if self.errors is None else [errors.get(row)]))
            yield dict(zip(self.columns, cells, strict=True))

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write the table as a CSV file, with six decimals; what spreadsheets would run begins with an apostrophe."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(map(guarded, self.columns)), lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            told = {key: f"{cell:.6f}" if isinstance(cell, float) else cell for key, cell in row.items()}
            told["image"] = str(told["image"]).encode(errors="backslashreplace").decode()  # a name may not be UTF-8
            writer.writerow(guarded_row(told))
        write_whole(path := as_path(path), text.getvalue(), overwrite)
        return path

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("as_frame=True needs pandas: pip install pandas. `to_csv` needs nothing.") from None
        own = dict.fromkeys(self.columns)
        table = {name: [row[name] for row in self.rows()] for name in own}
        numbers = self.columns[3 : 3 + len(self.class_names)]
        table |= dict(zip(numbers, self.probabilities.T, strict=True))
        table["probability"] = self.probabilities.max(axis=1)
        return pd.DataFrame(table)


def predictions_of(
    network: Network,
    description: Description,
    kept_features: Callable[[], KeptFeatures | None],
    pictures: Any,
    batch_size: int,
    *,
    verbose: int,
    views: int | Augment,
    on_bad_image: str,
    strangers: Strangers | None = None,
    share: float = SHARE,
) -> Predictions:
    """Predict images of any kind; see `Artifact.predict`.

    Args:
        strangers: tells images of none of the classes; None if that is not asked for.
        share: of the images of the classes that may be taken for such.
    """
    if not is_word(on_bad_image, ("raise", "skip")):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {shown(on_bad_image)}.")
    given, further, names = inputs_of(pictures), views_of(views), description.class_names
    pictures, errors = as_sequence(given.images), None if on_bad_image == "raise" else dict[int, str]()
    probabilities = np.full((len(pictures), len(names)), np.nan, "float32")
    distances, blocks = np.full(len(pictures), np.nan, "float32"), () if strangers is None else strangers.blocks
    if strangers is not None:
        strangers.limits(share)  # checked before anything is read
    with Narrator(verbose).bar("predict", len(pictures) * (1 + len(further))) as advance:
        how: dict[str, Any] = {"batch_size": batch_size, "advance": advance, "views": further, "blocks": blocks}
        kept = kept_features()
        for rows, pixels in read_parts(pictures, description.reading, errors=errors):
            if len(rows):
                probabilities[rows], *averages = look_at_images(network, kept, pixels, **how)
                if strangers is not None:
                    distances[rows] = strangers.distances(averages[0], share)
        if errors:  # so that the bar ends at its end
            advance(len(errors) * (1 + len(further)))
    far = [None] * len(pictures) if strangers is None else distances.tolist()
    found = [
        None if row in (errors or ()) else description.describe(probabilities[row], far[row])
        for row in range(len(pictures))
    ]
    cuts = description.thresholds or ((0.5,) * len(names) if description.multi_label else ())
    thresholds = dict(zip(names, cuts, strict=False))
    return Predictions(
        given.names, probabilities, found, names, errors, thresholds, None if strangers is None else distances
    )


def evaluation_of(
    network: Network,
    description: Description,
    kept_features: Callable[[], KeptFeatures | None],
    seen: Mapping[str, str],
    dataset: Any,
    *,
    split: str | None,
    batch_size: int,
    verbose: int,
    views: int | Augment,
    class_names: Sequence[str] | Mapping[str, int] | None,
) -> Evaluation:
    """Evaluate on labelled images; see `Artifact.evaluate`."""
    further = views_of(views)
    reading, cache, narrator = description.reading, Cache(), Narrator(verbose)
    keep = Keep(reading, cache, narrator)
    says, names = as_class_names(class_names), description.class_names
    parts = open_dataset(dataset, None, names, description.multi_label, keep=keep, says=says)
    name = split or next(name for name in ("test", "all", "validation", *parts) if name in parts)
    if name not in parts:
        raise DataError(f"The dataset has no split {name!r}; it has {', '.join(parts)}. Pass one of them as split.")
    data = parts[name]
    pixels, found = decode(data, reading, cache, narrator)
    if found.problems:
        raise DataError.listing("Some images cannot be evaluated", found.problems.values())
    if known := sum(seen.get(digest) in ("train", "validation") for digest in found.digests):
        told = f"{LEARNED_FROM} {known} of these {len(data)} images, so this is not a test."
        warnings.warn(told, stacklevel=5)  # in the line that called `evaluate`
    with narrator.bar("predict", len(data) * (1 + len(further))) as advance:
        (probabilities,) = look_at_images(network, kept_features(), pixels, found.digests, batch_size, advance, further)
    return evaluate(
        data.labels,
        probabilities,
        names,
        split=name,
        multi_label=description.multi_label,
        names=data.names,
        thresholds=description.thresholds,
        metadata=data.metadata,
        pictures=found.digests,
    )
