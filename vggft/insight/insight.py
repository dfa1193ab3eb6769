"""`Insight`: what the frozen features of a run say about its data, together; `insight.json` of its run directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..features.cuts import is_pooled
from ..files.schemas import BlockScore
from ..heads.batches import FeatureBank
from ..network.blocks import POOLING_LAYERS
from ..splits.pool import Pool
from .blocks import block_scores
from .doubts import Doubts, doubts_of
from .growing import growth_in
from .growth import Growth


@dataclass(frozen=True)
class Insight:
    """What the frozen features of a run say about its data; what is not known is empty.

    Args:
        blocks: what each block alone knows about the images.
        growth: how the score grows with the number of images, if all blocks are frozen.
        doubts: labels that may be wrong, and images that are nearly the same.
        seconds: what took how long.
    """

    blocks: tuple[BlockScore, ...] = ()
    growth: Growth | None = None
    doubts: Doubts = field(default_factory=Doubts)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, pool: Pool, bank: FeatureBank, cut: str | None, *, curve: bool, seed: int) -> Self:
        """Look at the images of a run.

        Args:
            pool: the images.
            bank: their features.
            cut: what the head learned from.
            curve: whether to measure how the score grows, if the head learned from averages or maxima of blocks.
            seed: of the curve.
        """
        seconds, pooled = {}, cut is not None and is_pooled(cut) and cut != POOLING_LAYERS["flatten"]
        begun = time.monotonic()

        def lap(name: str) -> None:
            nonlocal begun
            seconds[name], begun = round(time.monotonic() - begun, 3), time.monotonic()

        blocks = tuple(block_scores(bank, pool.rows["train"], pool.rows["validation"]))
        lap("blocks")
        doubts = doubts_of(pool, bank)
        lap("doubts")
        growth = growth_in(bank, cut, pool, seed=seed, quick=True) if curve and pooled and cut is not None else None
        lap("growth")
        return cls(blocks, growth, doubts, seconds)

    def told(self, written: bool) -> list[str]:
        """Say what a person should know, as sentences.

        Args:
            written: whether tables are in files.
        """
        return [*self.doubts.told(written), *([] if self.growth is None else [str(self.growth)])]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        found = {"blocks": list(self.blocks), **self.doubts.to_dict(), "seconds": dict(self.seconds)}
        return found if self.growth is None else found | {"growth": self.growth.to_dict()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Make it from the output of `to_dict`, also after JSON."""
        growth = Growth.from_dict(found["growth"]) if "growth" in found else None
        return cls(tuple(found.get("blocks", ())), growth, Doubts.from_dict(found), found.get("seconds", {}))
