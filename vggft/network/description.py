"""A classifier without its weights: class names, architecture and resizing, as JSON; and how to build it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Required, TypedDict

import keras
import numpy as np

from ..config import Head
from ..engine import own_settings
from ..errors import ConfigError
from ..fields import Positive, is_integer, is_number
from ..files.documents import DocumentError, fault_in
from ..files.schemas import Frozen
from ..pictures.reading import RESIZE_RULE, RULES, WORDS, ImageSize, Range, Reading, check_size, plain_size
from ..run import versions
from .blocks import BLOCKS, COLUMNS, check_architecture, kernel_shapes, pooling_layer, sizes_of
from .freezing import set_frozen
from .head import add_head, weight_shapes
from .vgg import add_blocks, preprocess

STRANGE = "none of the classes? "  # before the labels of a stranger


@dataclass(frozen=True)
class Classification:
    """The prediction for one image, most probable label first; `str` describes it.

    Args:
        labels: all labels, by decreasing probability; of two classes with an operating point, the predicted one first.
        probabilities: probabilities of these labels, 0..1.
        present: the predicted label; with several labels per image, all labels at or above their thresholds.
        distance: how far the image is from those of the classes: 0 is usual, above 1 is a stranger; None if unknown.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    present: tuple[str, ...]
    distance: float | None = None

    @property
    def stranger(self) -> bool | None:
        """Whether the image is probably of none of the classes; None if that is not known."""
        return None if self.distance is None else self.distance > 1

    @property
    def label(self) -> str:
        """The predicted label: the most probable one, unless an operating point decides."""
        return self.labels[0]

    def __str__(self) -> str:
        pairs = [f"{label} ({p:.1%})" for label, p in zip(self.labels, self.probabilities, strict=True)]
        return (STRANGE if self.stranger else "") + ", ".join(pairs[:3])


LARGEST = 4096  # px, of images; larger ones would take 17 GB in the first block

_Side = Annotated[int, f"an integer from 32 to {LARGEST}", lambda value: is_integer(value) and 32 <= value <= LARGEST]
_Share = Annotated[float, "a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1]
_Band = Annotated[int, "an integer from 0 to 65535", lambda value: is_integer(value) and 0 <= value < 2**16]
_Ends = Annotated[
    tuple[float, float],
    "two numbers, the lower first",
    lambda value: (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]
    ),
]
_Name = Annotated[str, "a name", lambda value: isinstance(value, str) and 0 < len(value) <= 1000]
_CUT = r"block[1-5]_pool|(block[1-5]_)*(avg_pool|max_pool|flatten)|pooled|\w+(16|32)"
_Cut = Annotated[
    str,
    "a cut, its precision and its dtype",
    lambda value: isinstance(value, str) and bool(re.fullmatch(_CUT, value)),
]


class Described(TypedDict, total=False):
    """The fields of a `Description` as JSON has them."""

    class_names: Required[list[_Name]]
    image_size: Required[_Side | tuple[_Side, _Side]]
    head: Required[dict[str, Any]]
    column: Annotated[str, f"one of {', '.join(COLUMNS)}", lambda value: value in tuple(COLUMNS)]
    width: Annotated[float, "a number in (0, 4]", lambda value: is_number(value) and 0 < value <= 4]
    multi_label: bool
    thresholds: list[_Share] | None
    temperature: Positive
    backbone: str
    frozen: list[Frozen]
    features: tuple[_Cut, _Cut, _Cut] | tuple[()]
    resize: str
    bands: tuple[_Band, _Band, _Band] | None
    integers: _Ends | None
    floats: _Ends | None
    clips: bool
    versions: dict[str, str]
    format: int


@dataclass(frozen=True)
class Description:
    """Everything needed to rebuild a classifier except its weights, and where it comes from."""

    class_names: tuple[str, ...]
    image_size: ImageSize
    column: str = "D"
    width: float = 1.0
    head: Head = dataclasses.field(default_factory=Head)
    multi_label: bool = False
    # Multi-label: the probability from which a label counts as present. Two classes: the one above its own.
    thresholds: tuple[float, ...] | None = None
    temperature: float = 1.0  # of calibration; the weights of the last layer include it
    backbone: str = "vgg16_imagenet"
    frozen: tuple[str, ...] = BLOCKS
    features: tuple[str, ...] = ()  # of the frozen features it learned from: cut, precision, and dtype in the cache
    resize: str = RESIZE_RULE  # one of `pictures.reading.RULES`; these five are a `Reading`
    bands: tuple[int, ...] | None = None
    integers: Range | None = None
    floats: Range | None = None
    clips: bool = False
    versions: Mapping[str, str] = dataclasses.field(default_factory=versions)
    format: int = 1

    @classmethod
    def with_reading(cls, reading: Reading, **others: Any) -> Description:
        """Make a description of a classifier that reads pictures in this way."""
        names = ("bands", "integers", "floats", "clips")
        how = {name: getattr(reading, name) for name in names}
        return cls(image_size=reading.image_size, resize=reading.rule, **how, **others)

    @property
    def reading(self) -> Reading:
        """How pictures become pixels."""
        resize = next((name for name, rule in RULES.items() if rule == self.resize), None)
        if resize is None:
            raise ConfigError(f"Description.resize must be one of {', '.join(RULES.values())}; got {self.resize!r}.")
        size = check_size(self.image_size)
        return Reading(size, resize, self.bands, self.integers, self.floats, self.clips, trained=True)

    @property
    def value_range(self) -> Range | None:
        """Black and white of pictures that have not 8 bits; None if the training images all had 8."""
        return self.reading.value_range

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return check_size(self.image_size)

    def prepares(self) -> str:
        """Say in words how pictures are prepared."""
        told = WORDS[self.reading.resize]
        if self.bands is not None:
            told += f"; red, green and blue are the bands {', '.join(map(str, self.bands))}"
        for name, found in (("integers of more than 8 bits", self.integers), ("floats", self.floats)):
            if found is not None:
                told += f"; {name} have black at {found[0]:.10g} and white at {found[1]:.10g}"
        return told

    @property
    def pooled(self) -> str:
        """The layer that gives the head its vector."""
        return pooling_layer(self.head.pooling, self.head.blocks or BLOCKS[-1:])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of features of each block in that vector."""
        sizes = sizes_of(self.head.blocks or BLOCKS[-1:], self.width)
        height, width = (side >> len(BLOCKS) for side in self.size)
        places = height * width if self.head.pooling == "flatten" else 1
        return tuple(places * size for size in sizes)

    @property
    def cuts(self) -> np.ndarray:
        """What is taken off the probabilities before the highest is named: the operating point of two, else 0."""
        return np.array(self.thresholds if self.thresholds and not self.multi_label else [0.0] * len(self.class_names))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what (N, num_classes) probabilities say: (N,) classes, or (N, num_classes) of 0 and 1 if several."""
        if not self.multi_label:
            return np.asarray((probabilities - self.cuts).argmax(axis=1))
        return (probabilities >= np.array(self.thresholds or (0.5,) * len(self.class_names), "float32")).astype(np.int8)

    def describe(self, probabilities: np.ndarray, distance: float | None = None) -> Classification:
        """Convert (num_classes,) probabilities of one image, and maybe its distance, to its prediction."""
        order = np.argsort(self.cuts - probabilities, kind="stable")
        labels = tuple(self.class_names[i] for i in order)
        present = labels[:1]
        if self.multi_label:
            thresholds = self.thresholds or (0.5,) * len(labels)
            present = tuple(self.class_names[i] for i in order if probabilities[i] >= thresholds[i])
        return Classification(labels, tuple(float(probabilities[i]) for i in order), present, distance)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"head": self.head.to_dict(), "image_size": plain_size(self.image_size)}

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight of the network, which is not built for it: `{"block1_conv1/kernel": ...}`.

        The network ends with the last block that its head sees.
        """
        last = max(self.head.blocks or BLOCKS[-1:])
        kernels = {name: each for name, each in kernel_shapes(self.column, self.width).items() if name[:6] <= last}
        shapes: dict[str, tuple[int, ...]] = {f"{name}/kernel": shape for name, shape in kernels.items()}
        shapes |= {f"{name}/bias": shape[-1:] for name, shape in kernels.items()}
        return shapes | weight_shapes(sum(self.sizes), self.head, len(self.class_names))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Description:
        """Make a description from the output of `to_dict`, also after JSON; fields of later versions are ignored.

        Raises:
            DocumentError: a field has an impossible value; the message names it.
        """
        if (fault := fault_in(fields, Described)) is not None:
            raise DocumentError(fault)
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items() if key in known
        }
        earlier = {"blocks": ["block5"], "normalize": "standardize"}  # in files from before these could be chosen
        names, cuts = fields["class_names"], fields.get("thresholds")
        if len(set(names)) < len(names) or not names:
            raise DocumentError("has the same name twice in class_names, or none")
        if cuts is not None and len(cuts) != len(names):
            raise DocumentError(f"has {len(cuts)} thresholds for {len(names)} classes")
        try:
            return cls(**values | {"head": Head.from_dict(earlier | dict(fields["head"]))})
        except ConfigError as error:
            raise DocumentError(f"has a head that cannot be: {error}") from None


@own_settings()
def build(description: Description, seed: int = 0, dtype: str | None = None) -> keras.Model:
    """Build the network, one flat graph: (B, height, width, 3) RGB 0..255 -> (B, num_classes) probabilities.

    Args:
        seed: seed of the head's initial weights and dropout.
        dtype: a Keras dtype policy for the blocks; the head is float32.
    """
    check_architecture(description.column, description.image_size, description.width)
    inputs = keras.Input((*description.size, 3), name="image")
    maps = add_blocks(preprocess(inputs), description.column, description.width, dtype=dtype)
    outputs = add_head(
        maps, description.head, len(description.class_names), multi_label=description.multi_label, seed=seed
    )
    model = keras.Model(inputs, outputs, name="vggft_classifier")
    set_frozen(model, description.frozen)  # also for whoever trains it on by Keras's `fit`
    return model
