"""What a classifier knows of its limits: how far strangers are, and what held-out images were told; as plain arrays."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..evaluation.evaluation import Evaluation
from ..files.archives import check_array, check_finite, open_arrays
from ..files.documents import DocumentError
from ..network.blocks import BLOCKS, sizes_of
from .conformal import Coverage, HeldOut, Method, coverage_of, sets_of
from .strangers import Strangers

LACKING = (
    "This classifier does not know {what}: {why}. Fine-tune it again with this version of vggft, with images for "
    "validation."
)
WHY = "it was saved by an earlier version, has too few images for validation, or its weights have changed since"


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of a classifier's limits.

    Attributes:
        strangers: tells images of none of the classes; None if that is not known.
        held_out: what held-out images were told, for prediction sets; None if that is not known.
    """

    strangers: Strangers | None = None
    held_out: HeldOut | None = None

    def __bool__(self) -> bool:
        return self.strangers is not None or self.held_out is not None

    def known_strangers(self) -> Strangers:
        """Return `strangers`; raise `ConfigError` if there are none."""
        if self.strangers is None:
            raise ConfigError(LACKING.format(what="how far its images are from strangers", why=WHY))
        return self.strangers

    def known_held_out(self, multi_label: bool) -> HeldOut:
        """Return `held_out`; raise `ConfigError` if there is none."""
        if multi_label:
            raise ConfigError("Prediction sets are for images with one label each; these may have several.")
        if self.held_out is None:
            raise ConfigError(LACKING.format(what="what held-out images were told", why=WHY))
        return self.held_out

    def limit(self, coverage: float, method: Method, multi_label: bool) -> float:
        """Return the highest score of a class that is in a prediction set; see `HeldOut.quantile`."""
        return self.known_held_out(multi_label).quantile(coverage, method)

    def coverage(self, evaluation: Evaluation | None, coverage: float, method: Method, multi_label: bool) -> Coverage:
        """Count how often prediction sets held the true class on an evaluation's images; see `Classifier.coverage`."""
        limit = self.limit(coverage, method, multi_label)
        if evaluation is None or evaluation.split == self.known_held_out(multi_label).split:
            raise ConfigError(
                "Coverage is counted on images that set no limit, but this classifier has no evaluation on others: "
                "give a test split, such as test=0.2 (--test 0.2), or set `evaluation` to one that `evaluate` returns."
            )
        sets = sets_of(evaluation.probabilities, limit, method)
        return coverage_of(evaluation.labels, sets, evaluation.class_names, coverage, method)

    def at_temperature(self, temperature: float) -> Trust:
        """Return what is known of the classifier when its logits are divided by a temperature."""
        return self if self.held_out is None else replace(self, held_out=self.held_out.at_temperature(temperature))

    def to_bytes(self) -> bytes:
        """Return an `.npz` file of plain arrays."""
        arrays: dict[str, Any] = {}
        if (far := self.strangers) is not None:
            arrays |= {"blocks": np.array(far.blocks), "kernel": far.kernel, "bias": far.bias, "centres": far.centres}
            arrays |= {"scale": far.scale, "scores": far.scores}
        if (held := self.held_out) is not None:
            arrays |= {"split": np.array(held.split), "labels": held.labels, "probabilities": held.probabilities}
        np.savez_compressed(file := io.BytesIO(), **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, packed: bytes, size: int, width: float, num_classes: int) -> Trust:
        """Read what `to_bytes` wrote, from a file that may be anything.

        Args:
            packed: the `.npz` file.
            size: bytes of the file that it is in.
            width: of the network.
            num_classes: its number of classes.

        Raises:
            DocumentError: arrays are missing, or have other shapes, kinds or values than they can have.
        """
        strangers = held_out = None
        with open_arrays(io.BytesIO(packed), size) as arrays:

            def read(name: str, kinds: str, *shape: int | None) -> np.ndarray:
                if name not in arrays:
                    raise DocumentError(f"lacks the array {name}")
                check_array(name, arrays[name], kinds, shape)
                check_finite(name, found := np.asarray(arrays[name]))
                return found

            if "blocks" in arrays:
                blocks = tuple(read("blocks", "U", None).tolist())
                if not blocks or blocks not in [BLOCKS[a:b] for a in range(5) for b in range(a + 1, 6)]:
                    raise DocumentError("has blocks that do not follow each other in the network")
                sizes = sizes_of(blocks, width)
                features = sum(sizes)
                strangers = Strangers(
                    blocks,
                    sizes,
                    read("kernel", "f", features, features).astype("float32"),
                    read("bias", "f", features).astype("float32"),
                    read("centres", "f", None, features).astype("float32"),
                    read("scale", "f", 2).astype("float32"),
                    np.sort(read("scores", "f", None).astype("float32")),
                )
                if not len(strangers.centres) or not len(strangers.scores):
                    raise DocumentError("has no centres or no scores")
            if "labels" in arrays:
                labels = read("labels", "iu", None).astype(np.int64)
                probabilities = read("probabilities", "f", len(labels), num_classes).astype("float32")
                if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
                    raise DocumentError("has labels that are no classes")
                if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-2:
                    raise DocumentError("has probabilities that do not sum to 1")
                held_out = HeldOut(str(read("split", "U")), labels, probabilities)
        return cls(strangers, held_out)
