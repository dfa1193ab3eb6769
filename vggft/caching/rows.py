"""The rows of a dataset: found in stores, or computed, shared out among all processes that need them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .claims import Claims
from .kinds import as_keys
from .store import SHARD_ROWS, Store

IN_MEMORY = 64 * 2**20  # bytes up to which the rows of a dataset are read into memory
MOST_SMALL = 64  # number of small shards of a kind from which they are merged
WAIT = 0.2  # seconds between looks for rows that another process computes

Compute = Callable[[np.ndarray], Sequence[np.ndarray]]


class Rows:
    """(N, ...) rows of a store, read from disk when they are indexed.

    A row that is damaged, or whose shard has been evicted since, is computed again.

    Args:
        store: where they are.
        digests: (n,) sorted, each once.
        each: (N,) the number of each row's digest.
        compute: numbers of digests -> their values.
    """

    def __init__(
        self, store: Store, digests: np.ndarray, each: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]
    ):
        self.store, self.digests, self.each, self.compute = store, digests, each, compute
        self.instead: dict[int, np.ndarray] = {}
        self.columns: slice | np.ndarray | None = None  # None for all; see `selected`
        self.place = store.locate(digests)
        self.shape: tuple[int, ...] = (len(each), *store.kind.shape)
        self.dtype = np.dtype(store.kind.dtype)

    def __len__(self) -> int:
        return len(self.each)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.asarray(self.each[index])
        numbers = wanted.reshape(-1)
        values, good = self.store.read(self.digests[numbers], self.place[numbers])
        if not good.all():
            self._look_again()
            bad = np.flatnonzero(~good)
            values[bad], good[bad] = self.store.read(self.digests[numbers[bad]], self.place[numbers[bad]])
        if not good.all():
            bad = np.flatnonzero(~good)
            again = np.unique(numbers[bad])
            computed = np.asarray(self.compute(again), self.dtype)
            damaged = np.unique(self.place[again, 0])
            with suppress(OSError):  # where the disk is full, they are computed each time
                self.store.rewrite(damaged[damaged >= 0])
                self.store.append(self.digests[again], computed)
                self._look_again()
            values[bad] = computed[np.searchsorted(again, numbers[bad])]
        if self.instead:
            positions = np.arange(len(self))[index].reshape(-1)
            for n in np.flatnonzero(np.isin(positions, list(self.instead))):
                values[n] = self.instead[int(positions[n])]
        values = values.reshape(*wanted.shape, *values.shape[1:])
        return values if self.columns is None else values[..., self.columns]

    def _look_again(self) -> None:
        self.store.refresh()
        self.place = self.store.locate(self.digests)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def selected(rows: np.ndarray | Rows, columns: slice | np.ndarray) -> np.ndarray | Rows:
    """Return some columns of (N, C) rows; from a store they are read when they are indexed."""
    if not isinstance(rows, Rows):
        return rows[:, columns]
    some = copy(rows)
    some.columns, some.shape = columns, (len(rows), np.zeros(rows.shape[1])[columns].size)
    return some


def replaced(rows: np.ndarray | Rows, positions: np.ndarray, values: np.ndarray) -> np.ndarray | Rows:
    """Replace the values at some positions; the store is not changed."""
    if isinstance(rows, Rows):
        rows.instead |= dict(zip(positions.tolist(), values, strict=True))
    else:
        rows[positions] = values
    return rows


def fill(
    stores: Sequence[Store],
    digests: Sequence[str],
    compute: Compute,
    *,
    at_once: int = SHARD_ROWS,
    make_room: Callable[[int], object] = lambda size: None,
    on_rows: Callable[[int], object] = lambda rows: None,
    on_wait: Callable[[Path], object] = lambda path: None,
) -> list[np.ndarray | Rows]:
    """Return the rows of several kinds for some digests; what any of them lacks is computed for all in one pass.

    Any number of processes may do this at once, on one machine or on several that share a file system. Each computes
    what no other process has claimed, and takes over the claims of processes that died.

    Args:
        stores: one for each kind.
        digests: N digests of 32 hexadecimal digits; equal digests share a row.
        compute: positions in `digests` -> their values for each of the stores.
        at_once: number of rows that are computed together, for which no other process then waits.
        make_room: called with the number of bytes that will be written next.
        on_rows: called with the number of rows that were found or computed since the last call.
        on_wait: called once with the directory of rows that other processes are computing, before waiting for them.

    Raises:
        OverflowError: the dtype of a kind is too small for the values.
    """
    wanted, first, each, copies = np.unique(
        as_keys(digests), return_index=True, return_inverse=True, return_counts=True
    )
    buckets = wanted.view(">u2")[::8].astype(np.uint16) >> 4  # the first 12 bits
    told, waited = 0, False
    together = hashlib.sha256("".join(store.kind.key for store in stores).encode()).hexdigest()[:32]
    claims = Claims(stores[0].path.parent / "claims" / together)

    def lacking(numbers: np.ndarray) -> np.ndarray:
        for store in stores:
            store.refresh()
        some = wanted if len(numbers) == len(wanted) else wanted[numbers]
        return numbers[np.any([store.locate(some)[:, 0] < 0 for store in stores], axis=0)]

    for store in stores:  # from now on in use, so that they are evicted last
        store.refresh()
        store.touch(store.locate(wanted))
    left = np.arange(len(wanted))
    with claims:
        while len(left := lacking(left)):
            if (there := len(each) - int(copies[left].sum())) > told:
                on_rows(there - told)
                told = there
            mine = claims.take(left, buckets[left], at_once)
            if not len(mine):
                if not waited:
                    on_wait(stores[0].path)
                waited = True
                time.sleep(WAIT)
                continue
            mine = lacking(mine)  # another process may just have written them
            if len(mine):
                mine = mine[np.argsort(first[mine])]  # in the order of the dataset
                make_room(sum(store.kind.row_bytes for store in stores) * len(mine))
                values = compute(first[mine])
                for store, rows in zip(stores, values, strict=True):
                    new = store.missing(wanted[mine])
                    if len(new):
                        store.append(wanted[mine[new]], np.asarray(rows)[new])
            claims.release()
    on_rows(len(each) - told)
    found: list[np.ndarray | Rows] = []
    for number, store in enumerate(stores):
        with suppress(OSError):  # where the disk is full, small shards stay
            store.compact(MOST_SMALL)
        found_rows = Rows(store, wanted, each, partial(_one_of, compute, first, number))
        found.append(found_rows[:] if found_rows.nbytes <= IN_MEMORY else found_rows)
    return found


def computed(stores: Sequence[Store], digests: Sequence[str], compute: Compute, *, at_once: int) -> list[np.ndarray]:
    """Return rows as `fill` does, in memory: those that the stores lack are computed, and not written.

    Raises:
        OverflowError: the dtype of a kind is too small for the values.
    """
    wanted, first, each = np.unique(as_keys(digests), return_index=True, return_inverse=True)
    found, left = list[np.ndarray](), np.zeros(len(wanted), bool)
    for store in stores:
        values, good = np.empty((len(wanted), *store.kind.shape), store.dtype), np.zeros(len(wanted), bool)
        with suppress(OSError):  # it cannot be read either
            store.refresh()
            values, good = store.read(wanted, store.locate(wanted))
        found.append(values)
        left |= ~good
    rows = np.flatnonzero(left)
    rows = rows[np.argsort(first[rows])]
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        for store, values, new in zip(stores, found, compute(first[part]), strict=True):
            values[part] = store.as_kept(np.asarray(new))
    return [values[each] for values in found]


def _one_of(compute: Compute, first: np.ndarray, number: int, numbers: np.ndarray) -> np.ndarray:
    return compute(first[numbers])[number]
