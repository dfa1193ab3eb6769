"""`Insight`: what the frozen features of a run say about its data, together; `insight.json` of its run directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..features.cuts import is_pooled
from ..files.schemas import BlockScore
from ..heads.batches import FeatureBank
from ..network.blocks import POOLING_LAYERS
from ..splits.pool import Pool
from .blocks import block_scores
from .doubts import Doubts, doubts_of, words
from .growing import growth_in
from .growth import Growth
from .places import Places


@dataclass(frozen=True)
class Insight:
    """What the frozen features of a run say about its data; what is not known is empty.

    Args:
        blocks: what each block alone knows about the images.
        growth: how the score grows with the number of images, if all blocks are frozen.
        doubts: labels that may be wrong, and images that are nearly the same.
        places: what a map of the images is drawn from.
        seconds: what took how long.
    """

    blocks: tuple[BlockScore, ...] = ()
    growth: Growth | None = None
    doubts: Doubts = field(default_factory=Doubts)
    places: Places = field(default_factory=Places)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, pool: Pool, bank: FeatureBank, cut: str | None, predicted: Mapping[int, str], *, shown: bool, seed: int
    ) -> Self:
        """Look at the images of a run.

        Args:
            pool: the images.
            bank: their features.
            cut: what the head learned from.
            predicted: row of an image that was judged -> the class that was predicted for it, in words.
            shown: whether anybody will see how the score grows, and a map; these take most of the time.
            seed: of the curve and of the images on the map.
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
        growth = growth_in(bank, cut, pool, seed=seed, quick=True) if shown and pooled and cut is not None else None
        lap("growth")
        places = Places()
        if shown:
            row_of = {name: row for row, name in enumerate(pool.names)}
            suspects = [row_of[found["image"]] for found in doubts.labels if found["suggested"]]
            wrong = [row for row, told in predicted.items() if told != words(pool, row)]
            places = Places.of(pool, bank, predicted, [*suspects, *wrong], seed)
            lap("places")
        return cls(blocks, growth, doubts, places, seconds)

    def told(self, run_dir: Path | None) -> list[str]:
        """Say what a person should know, as sentences.

        Args:
            run_dir: the folder that tables are in; None if they are in no files.
        """
        return [*self.doubts.told(run_dir), *([] if self.growth is None else [str(self.growth)])]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without the places."""
        found = {"blocks": list(self.blocks), **self.doubts.to_dict(), "seconds": dict(self.seconds)}
        return found if self.growth is None else found | {"growth": self.growth.to_dict()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], places: Places) -> Self:
        """Make it from the output of `to_dict`, also after JSON, and its places."""
        growth = Growth.from_dict(found["growth"]) if "growth" in found else None
        return cls(tuple(found.get("blocks", ())), growth, Doubts.from_dict(found), places, found.get("seconds", {}))
