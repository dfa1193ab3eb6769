"""`History`: what each epoch gave, as rows, as columns, and as a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ..errors import counted, short_traceback, some
from ..extras import data_frame

if TYPE_CHECKING:
    from ..drawing.curves import HistoryDisplay


@short_traceback
class History(Sequence[Mapping[str, Any]]):
    """One row for each epoch, in the shape that Keras's `History` has, too.

    Args:
        rows: `phase`, `epoch` within the phase from 1, losses, accuracies, and whether the weights were `kept`. For a
            linear probe that is solved exactly, each row is a strength that was compared.

    >>> found = History([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.4}])
    >>> found.history["val_loss"], found["val_loss"], found.epoch, found[-1]["epoch"]
    ([0.5, 0.4], [0.5, 0.4], [0, 1], 2)
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()):
        self.rows = [dict(row) for row in rows]

    @property
    def history(self) -> dict[str, list[Any]]:
        """The columns: `history["val_loss"]` is a list with an entry for each row, NaN where a row has none."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, math.nan) for row in self.rows] for name in names}

    @property
    def epoch(self) -> list[int]:
        """The numbers of the rows from 0, through all phases, as Keras counts epochs."""
        return list(range(len(self.rows)))

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each epoch.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self.rows, None, "history")

    def plot(self, ax: Any = None) -> HistoryDisplay:
        """Plot accuracy and loss over the epochs; a dot marks the epoch whose weights were kept.

        Args:
            ax: two matplotlib `Axes` to draw on, or one that is divided; None makes a new figure.

        Returns:
            The `vggft.plots.HistoryDisplay`, with `figure_` and `axes_`.
        """
        from ..drawing.curves import HistoryDisplay

        return HistoryDisplay(self).plot(ax)

    def _repr_html_(self) -> str | None:
        from ..drawing.curves import HistoryDisplay

        return HistoryDisplay(self).to_html("Accuracy and loss over the epochs") if self.rows else None

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...  # type: ignore[override]
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        """Return a row by its number, rows by a slice, or a column by its name."""
        if not isinstance(index, str):
            return self.rows[index]
        columns = self.history
        if index not in columns:
            raise KeyError(f"{index!r} is not in the history; it has {some(columns)}")
        return columns[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        return self.rows == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<History of {counted(len(self), 'row')}: {some(self.history, limit=12)}>"
