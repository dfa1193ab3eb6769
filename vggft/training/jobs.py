"""A phase of training as files, which several processes train together; see `machines.crew`.

Nothing in the files is run: settings are JSON, objects of Keras are its own configurations, weights are arrays, and
images or features are found in the cache by their digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from ..augment import Augment
from ..caching.cache import Cache
from ..caching.kinds import Kind
from ..caching.rows import Rows, selected
from ..caching.store import Store
from ..config import Training
from ..errors import ConfigError, RunError
from ..fields import shown
from ..files.archives import read_arrays
from ..files.documents import parse_document
from ..files.schemas import Note
from ..files.writing import whole_file, write_whole
from ..heads.batches import Examples
from ..machines.crew import Crew
from ..machines.processes import document
from ..network.description import Description
from ..run import RunDirectory
from ..telling.progress import Narrator
from .optimizers import Carried
from .phases import ResolvedPhase


@dataclass(frozen=True)
class Job:
    """What `fit_phase` needs to train a phase, and what it begins with.

    Args:
        description: of the network, without its weights.
        weights: of the whole network, as Keras lists them.
        precision: of the blocks.
        layer: after which the inputs enter the network; None for its input.
        phase, training: resolved.
        examples, validation: what it learns from, and what selects the epoch.
        seed: as for `fit_phase`.
        run: the directory of its resume points.
        tensorboard: whether to write curves there.
        carried: what earlier phases hand to the optimizer.
        seconds: until it has to end; None for no limit.
        augment: what changes the pixels of a batch in every epoch, if anything does.
        drawn_by: the seed of these changes.
        keys: (N,) `keys_of` all images, by which an `Augment` draws.
    """

    description: Description
    weights: list[np.ndarray]
    precision: str
    layer: str | None
    phase: ResolvedPhase
    training: Training
    examples: Examples
    validation: Examples | None
    seed: int
    run: str
    tensorboard: bool
    carried: Carried
    seconds: float | None
    augment: Any = None
    drawn_by: int = 0
    keys: np.ndarray | None = None

    def write(self, folder: Path) -> Path:
        """Write the job into a folder; return its file.

        Raises:
            ConfigError: something in it cannot be given to another process.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = ("precision", "layer", "seed", "run", "tensorboard", "seconds", "drawn_by")
        told = {name: getattr(self, name) for name in names}
        told |= {"description": self.description.to_dict(), "training": self.training.to_dict()}
        told |= {"phase": asdict(self.phase), "augment": _configured(self.augment)}
        arrays: dict[str, np.ndarray] = {f"w{n}": array for n, array in enumerate(self.weights)}
        arrays |= {f"slot{n}": array for n, array in enumerate(self.carried.slots.values())}
        told |= {"weights": len(self.weights), "slots": list(self.carried.slots), "steps": self.carried.steps}
        arrays |= {} if self.keys is None else {"keys": self.keys}
        for name, examples in (("examples", self.examples), ("validation", self.validation)):
            told[name] = None if examples is None else _written(examples, f"{name}_", folder, arrays)
        with whole_file(folder / "job.npz", overwrite=True) as aside:
            np.savez(aside, **arrays)  # type: ignore[arg-type]
        write_whole(folder / "job.json", document(told), overwrite=True)
        return folder / "job.json"

    @classmethod
    def read(cls, file: Path) -> Job:
        """Read what `write` wrote."""
        told: dict[str, Any] = parse_document(file.read_bytes(), dict[str, Any])
        arrays = read_arrays(file.with_suffix(".npz"), RunError)
        weights = [arrays[f"w{n}"] for n in range(told["weights"])]
        slots = {name: arrays[f"slot{n}"] for n, name in enumerate(told.pop("slots"))}
        phase: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in told["phase"].items()
        }
        told |= {"phase": ResolvedPhase(**phase), "training": Training.from_dict(told["training"])}
        told |= {"description": Description.from_dict(told["description"]), "weights": weights}
        told |= {"carried": Carried(slots, told.pop("steps")), "augment": _object(told["augment"])}
        for name in ("examples", "validation"):
            told[name] = told[name] and _read(told[name], f"{name}_", file.parent, arrays)
        return cls(**told, keys=arrays.get("keys"))


def _written(examples: Examples, name: str, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Add examples to the arrays of a job; return how to read them."""
    for part in ("targets", "rows", "view_rows", "weights"):
        if (values := getattr(examples, part)) is not None:
            arrays[name + part] = values
    every = [examples.inputs, *examples.views]
    inputs = [_stored(values, f"{name}inputs{n}_", folder, arrays) for n, values in enumerate(every)]
    return {"inputs": inputs, "sizes": list(examples.sizes)}


def _read(told: dict[str, Any], name: str, folder: Path, arrays: Mapping[str, np.ndarray]) -> Examples:
    inputs, *views = (_opened(each, f"{name}inputs{n}_", folder, arrays) for n, each in enumerate(told["inputs"]))
    rest = {part: arrays.get(name + part) for part in ("targets", "rows", "view_rows", "weights")}
    return Examples(inputs, views=views, sizes=tuple(told["sizes"]), **rest)  # type: ignore[arg-type]


def _stored(values: np.ndarray | Rows, name: str, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return where values are: in the cache, by their digests, or in a file of their own."""
    if not isinstance(values, Rows):
        with whole_file(folder / f"{name}.npy", overwrite=True) as aside, aside.open("wb") as file:
            np.save(file, values)
        return {"file": f"{name}.npy"}
    arrays |= {f"{name}digests": values.digests, f"{name}each": values.each}
    if values.columns is not None:
        arrays[f"{name}columns"] = np.arange(values.store.kind.shape[0])[values.columns]
    if values.instead:
        arrays |= {
            f"{name}places": np.array(list(values.instead)),
            f"{name}instead": np.array([*values.instead.values()]),
        }
    return {"kind": asdict(values.store.kind)}


def _opened(told: dict[str, Any], name: str, folder: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray | Rows:
    if "file" in told:
        return np.load(folder / told["file"], mmap_mode="r", allow_pickle=False)
    kind = Kind(**told["kind"] | {"shape": tuple(told["kind"]["shape"])})
    store = Store(Cache().root, kind)
    store.refresh()

    def gone(numbers: np.ndarray) -> np.ndarray:
        raise RunError(
            f"{len(numbers)} rows of {kind.name} are not in the cache in {store.path.parents[1]}: all workers need the "
            "same cache, in VGGFT_CACHE_DIR, on a disk that all of them see; and it has to be large enough."
        )

    rows = Rows(store, arrays[f"{name}digests"], arrays[f"{name}each"], gone)
    if f"{name}places" in arrays:
        rows.instead = dict(zip(arrays[f"{name}places"].tolist(), arrays[f"{name}instead"], strict=True))
    return selected(rows, arrays[f"{name}columns"]) if f"{name}columns" in arrays else rows


def _configured(augment: Any) -> Any:
    """Return an augmentation as JSON has it.

    Raises:
        ConfigError: it is a function, or a layer of someone's own, which another process cannot make.
    """
    if augment is None:
        return None
    if isinstance(augment, Augment):
        return {"augment": augment.to_dict()}
    try:
        told = {"layer": keras.saving.serialize_keras_object(augment)}
        _object(told)
    except Exception as error:
        raise ConfigError(
            "augment must be an Augment or a layer of Keras where several processes train, as a function cannot be "
            f"given to another process; got {shown(augment)}."
        ) from error
    return told


def _object(told: Any) -> Any:
    """Return the augmentation that `_configured` has told of."""
    if told is None:
        return None
    if "augment" in told:
        return Augment.from_dict(told["augment"])
    return keras.saving.deserialize_keras_object(told["layer"])


def train_together(crew: Crew, job: Job, run: RunDirectory, narrator: Narrator) -> None:
    """Have a job trained by all workers, unless that is done already; what it gives is its resume point.

    Args:
        run: where resume points are kept.
        narrator: shows how far the chief's own process is, which is as far as the others.

    Raises:
        RunError: a worker failed again and again, or did not come.
    """

    def reached() -> Note | None:
        point = run.load_point(job.phase.name, Note)
        return None if point is None else cast(Note, point[1])

    if (note := reached()) is not None and note["done"]:
        return
    file = job.write(crew.place.folder / "job")
    images, first = len(job.examples), 0 if note is None else note["epoch"] + 1
    with narrator.bar(f"{job.phase.name}, {crew.cluster.size} workers", (job.phase.epochs - first) * images) as advance:

        def on_told(told: dict[str, Any]) -> None:
            if "done" in told:
                advance(told["done"], told.get("description"))

        crew.run(file, lambda: -1 if (now := reached()) is None else now["epoch"], on_told)
    if (note := reached()) is None or not note["done"]:
        raise RunError(f"All workers have trained {job.phase.name}, but {run.point(job.phase.name)} does not say so.")
