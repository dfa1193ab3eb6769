"""What is kept, and everything that its values depend on; two runs that agree on a kind share its rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypedDict

import numpy as np

from ..fields import is_integer

FORMAT = 2
KINDS = ("features", "images", "image-facts", "contents", "values")  # names of kinds, which are directories


@dataclass(frozen=True)
class Kind:
    """Everything that the values of rows depend on besides the digest.

    Args:
        name: the directory of the rows, for example `"features"`.
        parts: what the values depend on, ready for JSON.
        shape: shape of one row.
        dtype: dtype of the stored values.
    """

    name: str
    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class About(TypedDict):  # what a store says of itself
    format: Annotated[int, f"the format {FORMAT}", lambda value: value == FORMAT]
    name: str
    parts: dict[str, Any]
    shape: list[Annotated[int, "an integer >= 0", lambda value: is_integer(value) and value >= 0]]
    dtype: str


class OldAbout(TypedDict):  # the same of an entry in the format of an earlier version
    kind: str
    parts: dict[str, Any]
    shape: list[int]
    dtype: str


def as_keys(digests: Sequence[str]) -> np.ndarray:
    """Return (N,) digests of 32 hexadecimal digits as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(digests)), "S16")
