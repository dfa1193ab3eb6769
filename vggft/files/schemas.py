"""What is in the JSON of a run directory, as far as it is read: schemas for `documents`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Required, TypedDict

from ..fields import is_integer

Frozen = Annotated[
    str,
    "a block or a convolution, such as 'block5' or 'block5_conv2'",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"block[1-5](_conv[1-4])?", value)),
]
Count = Annotated[int, "an integer >= 0", lambda value: is_integer(value) and value >= 0]
Id = Annotated[
    str,
    "letters and digits",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w-]{1,64}", value)),  # it is part of a path
]
Scalar = str | bool | float
Ends = tuple[float, float] | None


class Settings(TypedDict, total=False):
    """`config.json`."""

    num_classes: Count
    backbone: str
    precision: Literal["float32", "float16", "bfloat16"]
    stored_as: Literal["float32", "float16"]
    splits: dict[str, Count]
    frozen: list[Frozen]
    head: dict[str, Any] | None
    training: dict[str, Any]
    seed: int


class Made(Settings):
    """`config.json` of a run that has made a classifier."""

    num_classes: Required[Count]  # type: ignore[misc]
    backbone: Required[str]  # type: ignore[misc]
    precision: Required[Literal["float32", "float16", "bfloat16"]]  # type: ignore[misc]


class Environment(TypedDict, total=False):
    """`environment.json`."""

    versions: dict[str, str]
    command: list[str]
    arguments: dict[str, Any]
    started: str
    seconds: float


class Audited(TypedDict, total=False):
    """`audit.json`."""

    images: Required[Count]
    class_names: Required[list[str]]
    class_counts: dict[str, dict[str, Count]]
    multi_label: Required[bool]
    widths: Required[tuple[float, float, float] | tuple[()]]
    heights: Required[tuple[float, float, float] | tuple[()]]
    errors: Required[list[str]]
    warnings: Required[list[str]]
    left_out: list[str]


class Judged(TypedDict, total=False):
    """An evaluation."""

    accuracy: float | None
    average_precision: float | None
    intervals: dict[str, Ends]


class Calibrated(TypedDict):
    """What calibration changed."""

    temperature: float
    split: str
    images: Count
    calibration_error: dict[str, tuple[float, float]]
    log_loss: dict[str, tuple[float, float]]


Summary = TypedDict(
    "Summary",
    {
        "validation": Judged,
        "test": Judged,
        "cross-validation": Judged,
        "gap": dict[str, float],
        "calibration": Calibrated | None,
        "caveats": list[str],
    },
    total=False,
)
"""`evaluation.json`."""


class BlockScore(TypedDict):
    """What one block alone knows about the images."""

    block: str
    accuracy: float
    error: float


class Grown(TypedDict):
    """How the score grows with the number of images."""

    images: Count
    metric: Literal["accuracy", "average_precision"]
    sizes: list[Count]
    scores: list[float]
    ends: list[tuple[float, float]]
    laws: list[tuple[float, float, float]]
    why: str


class DoubtfulLabel(TypedDict):
    """An image whose label may be wrong."""

    image: str
    split: str
    label: str
    likely: str
    confidence: float
    wrong: float
    suggested: bool


class NearDuplicate(TypedDict):
    """An image of a group of images that are nearly the same."""

    group: Count
    image: str
    split: str
    label: str
    leak: bool


class Insights(TypedDict, total=False):
    """`insight.json`."""

    blocks: list[BlockScore]
    growth: Grown
    doubtful_labels: list[DoubtfulLabel]
    near_duplicates: list[NearDuplicate]
    seconds: dict[str, float]


class Outcome(TypedDict, total=False):
    """`outcome.json` of a trial."""

    trial_id: Required[Id]
    status: Required[Literal["completed", "failed"]]
    hyperparameters: Required[dict[str, Scalar]]
    frozen: Required[list[Frozen]]
    head: Required[dict[str, Any]]
    training: Required[dict[str, Any]]
    score: Required[float | None]
    scores: list[float]
    interval: Ends
    metrics: dict[str, float | None] | None
    epochs: dict[str, Count] | None
    seconds: float
    way: str
    reason: str
    history: list[dict[str, Any]]


class Best(TypedDict):
    """The best trial of a search."""

    trial_id: Id


class Found(TypedDict):
    """`search.json`."""

    objective: str
    direction: Literal["max", "min"]
    trials: Count
    best: Best
    stopped: str
    validation_score: float | None
    test_score: float | None


class Hyperparameters(TypedDict):
    """A space and values of KerasTuner."""

    space: list[dict[str, Any]]
    values: dict[str, Scalar]


class Proposed(TypedDict):
    """A trial as KerasTuner keeps it."""

    trial_id: Id
    status: Literal["RUNNING", "IDLE", "INVALID", "STOPPED", "COMPLETED", "FAILED"]
    hyperparameters: Hyperparameters
    metrics: dict[str, Any]
    score: float | None
    best_step: int | None
    message: str | None


class Asked(TypedDict):
    """An oracle of KerasTuner."""

    ongoing_trials: dict[str, Id]
    hyperparameters: Hyperparameters
    start_order: list[Id]
    end_order: list[Id]
    run_times: dict[str, Count]
    retry_queue: list[Id]
    seed: Count
    seed_state: Count
    tried_so_far: list[str]
    id_to_hash: dict[str, str | None]
    display: dict[str, Any]


class State(TypedDict):
    """`search_state.json`."""

    oracle: Asked
    trials: list[Proposed]


class Candidate(TypedDict):
    """A probe in `choice.json`."""

    normalize: str
    worse: float


class Epoch(TypedDict, total=False):
    """A row of a history: names of losses and metrics with their values, besides these."""

    phase: Required[str]
    epoch: Required[Count]
    kept: bool


class Plateau(TypedDict):
    """The state of a learning rate that is reduced on a plateau."""

    best: float
    wait: Count
    cooldown_counter: Count


class Note(TypedDict, total=False):
    """Of the resume point of a phase."""

    epoch: Required[Count]
    wait: Required[Count]
    best: Required[float]
    best_epoch: Required[Annotated[int, "an integer >= -1", lambda value: is_integer(value) and value >= -1]]
    history: Required[list[Epoch]]
    done: Required[bool]
    plateau: Plateau


class Plan(TypedDict):
    """Of the resume point of `freeze="auto"`."""

    epochs: int
