"""What a classifier says about some images: probabilities, labels, and what could not be read, by image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..augment import Augment
from ..errors import ConfigError, DataError
from ..fields import as_path, is_word, shown
from ..files.writing import write_whole
from ..foreign import guarded, guarded_row
from ..network.assembly import Network
from ..network.description import Classification, Description
from ..pictures.arrays import as_sequence
from ..telling.progress import Narrator
from .inputs import inputs_of, read_parts
from .known import KeptFeatures, predict_images, views_of

OWN = ("image", "label", "probability", "error")  # columns of a table, before and after those of the classes


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
    """

    names: Sequence[str]
    probabilities: np.ndarray
    found: Sequence[Classification | None]
    class_names: Sequence[str]
    errors: Mapping[int, str] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table: image, label (several joined by "|"), probability, each class, and maybe error."""
        own = OWN if self.errors is not None else OWN[:3]
        classes = (f"class {name}" if name in own else name for name in self.class_names)
        return (*OWN[:3], *classes, *own[3:])

    def line(self, row: int, top: int) -> str:
        """Describe an image that was read in one line: the `top` labels, those that are not predicted after "not"."""
        one = self.found[row]
        assert one is not None
        told = [f"{label} ({p:.1%})" for label, p in zip(one.labels[:top], one.probabilities, strict=False)]
        if self.thresholds:
            present = [label in one.present for label in one.labels[:top]]
            others = ", ".join(words for words, there in zip(told, present, strict=True) if not there)
            told = [words for words, there in zip(told, present, strict=True) if there] or ["nothing"]
            return f"{self.names[row]}: {', '.join(told)}" + (f"; not {others}" if others else "")
        return f"{self.names[row]}: {', '.join(told)}"

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
            cells = (name, label, best, *values, *([] if self.errors is None else [errors.get(row)]))
            yield dict(zip(self.columns, cells, strict=True))

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write the table as a CSV file, with six decimals; what spreadsheets would run begins with an apostrophe."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(map(guarded, self.columns)), lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            told = {key: f"{cell:.6f}" if isinstance(cell, float) else cell for key, cell in row.items()}
            writer.writerow(guarded_row(told))
        write_whole(path := as_path(path), text.getvalue(), overwrite)
        return path

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`.

        Raises:
            DataError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise DataError("as_frame=True needs pandas: pip install pandas.") from None
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
) -> Predictions:
    """Predict images of any kind; see `Artifact.predict`."""
    if not is_word(on_bad_image, ("raise", "skip")):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {shown(on_bad_image)}.")
    given, further, names = inputs_of(pictures), views_of(views), description.class_names
    pictures, errors = as_sequence(given.images), None if on_bad_image == "raise" else dict[int, str]()
    probabilities = np.full((len(pictures), len(names)), np.nan, "float32")
    with Narrator(verbose).bar("predict", len(pictures) * (1 + len(further))) as advance:
        how: dict[str, Any] = {"batch_size": batch_size, "advance": advance, "views": further}
        kept = kept_features()
        for rows, pixels in read_parts(pictures, description.reading, errors=errors):
            if len(rows):
                probabilities[rows] = predict_images(network, kept, pixels, **how)
    found = [None if row in (errors or ()) else description.describe(each) for row, each in enumerate(probabilities)]
    cuts = description.thresholds or ((0.5,) * len(names) if description.multi_label else ())
    return Predictions(given.names, probabilities, found, names, errors, dict(zip(names, cuts, strict=False)))
