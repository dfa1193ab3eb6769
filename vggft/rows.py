"""Rows of a dataset out of stores: what is missing is computed, by as many processes as there are, each its share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .claims import Claims
from .store import SHARD_ROWS, Store, as_keys

IN_MEMORY = 64 * 2**20  # bytes up to which the rows of a dataset are read at once
MOST_SMALL = 64  # small shards of a kind, before they are merged
WAIT = 0.2  # seconds until it is looked again for rows that another process computes

Compute = Callable[[np.ndarray], Sequence[np.ndarray]]


class Rows:
    """(N, ...) rows of a store in the order of some digests, read from disk when they are indexed.

    A row that turns out to be damaged, or whose shard has been evicted meanwhile, is computed again.
    """

    def __init__(self, store: Store, digests: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]):
        self.store, self.digests, self.compute = store, digests, compute
        self.instead: dict[int, np.ndarray] = {}
        self.place = store.locate(digests)
        self.shape, self.dtype = (len(digests), *store.kind.shape), np.dtype(store.kind.dtype)

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.asarray(np.arange(len(self))[index])
        positions = wanted.reshape(-1)
        values, good = self.store.read(self.digests[positions], self.place[positions])
        if not good.all():
            self.store.refresh()
            self.place = self.store.locate(self.digests)
            bad = np.flatnonzero(~good)
            values[bad], good[bad] = self.store.read(self.digests[positions[bad]], self.place[positions[bad]])
        if not good.all():
            bad = np.flatnonzero(~good)
            again = np.unique(positions[bad])
            damaged = {self.store.shards[number] for number in self.place[again, 0] if number >= 0}
            self.store.rewrite(sorted(damaged))
            computed = np.asarray(self.compute(again), self.dtype)
            self.store.append(self.digests[again], computed)
            self.store.refresh()
            self.place = self.store.locate(self.digests)
            values[bad] = computed[np.searchsorted(again, positions[bad])]
        for n in np.flatnonzero(np.isin(positions, list(self.instead))) if self.instead else ():
            values[n] = self.instead[int(positions[n])]
        return values.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def replaced(rows: np.ndarray | Rows, positions: np.ndarray, values: np.ndarray) -> np.ndarray | Rows:
    """The same rows with other values at some positions; what is stored is not changed."""
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
    make_room: Callable[[int], object] = lambda size: None,
    on_rows: Callable[[int], object] = lambda rows: None,
    on_wait: Callable[[Path], object] = lambda path: None,
) -> list[np.ndarray | Rows]:
    """The rows of several kinds for some digests; what is missing of any is computed for all of them in one pass.

    Any number of processes may do this at once, on one machine or on several that share a file system: each computes
    what no other has claimed, and takes over the claims of those that died.

    Args:
        stores: one for each kind.
        digests: (N,) 32 hexadecimal digits each; equal ones have one row.
        compute: given positions in `digests`, the values for each of the stores.
        make_room: told how many bytes are going to be written.
        on_rows: told how many of the N rows are there.
        on_wait: told of the first directory in which others compute what this process needs.

    Raises:
        OverflowError: the dtype of a kind is too small for the values.
    """
    wanted = as_keys(digests)
    _, first, copies = np.unique(wanted, return_index=True, return_counts=True)
    first_bytes = wanted.view("u1").reshape(-1, 16).astype(np.int64)
    buckets = first_bytes[:, 0] << 4 | first_bytes[:, 1] >> 4  # the first 12 bits
    told, waited = 0, False
    counts = np.zeros(len(wanted), np.int64)
    counts[first] = copies
    together = hashlib.sha256("".join(store.kind.key for store in stores).encode()).hexdigest()[:32]
    claims = Claims(stores[0].path.parent / "claims" / together)

    def lacking() -> np.ndarray:
        for store in stores:
            store.refresh()
        return first[np.unique(np.concatenate([store.missing(wanted[first]) for store in stores]))]

    for store in stores:  # in use from now on, so that nothing of it is evicted meanwhile
        store.refresh()
        store.touch(store.locate(wanted))
    with claims:
        while len(left := lacking()):
            if (there := len(wanted) - int(counts[left].sum())) > told:
                on_rows(there - told)
                told = there
            mine = claims.take(left, buckets[left], SHARD_ROWS)
            if not len(mine):
                if not waited:
                    on_wait(stores[0].path)
                waited = True
                time.sleep(WAIT)
                continue
            mine = np.intersect1d(mine, lacking())  # another process may just have ended
            if len(mine):
                make_room(sum(store.kind.row_bytes for store in stores) * len(mine))
                values = compute(mine)
                for store, rows in zip(stores, values, strict=True):
                    new = store.missing(wanted[mine])
                    if len(new):
                        store.append(wanted[mine[new]], np.asarray(rows)[new])
            claims.release()
    on_rows(len(wanted) - told)
    found: list[np.ndarray | Rows] = []
    for number, store in enumerate(stores):
        store.compact(MOST_SMALL)
        found_rows = Rows(store, wanted, partial(_one_of, compute, number))
        found.append(found_rows[:] if found_rows.nbytes <= IN_MEMORY else found_rows)
    return found


def _one_of(compute: Compute, number: int, positions: np.ndarray) -> np.ndarray:
    return compute(positions)[number]
