"""A run from its arguments to its files: what `finetune` and `search` have in common."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from .artifact.artifact import Artifact
from .artifact.judge import Judged, check_adjustments, judge
from .artifact.known import strangers_of
from .artifact.record import PLACES, Record, write_pictures
from .caching.cache import INSTEAD
from .costs import Estimate
from .errors import ConfigError, some
from .evaluation.evaluation import Evaluation
from .features.extract import Pass
from .heads.batches import FeatureBank
from .heads.resampling import Fitted, Held
from .insight.doubts import FILES
from .insight.insight import Insight
from .machines.strategies import ONE, Devices
from .network.assembly import Network
from .run import RunDirectory, environment
from .telling.progress import Narrator
from .training.experiment import Experiment, make_experiment
from .training.phases import Setting
from .training.request import Request
from .trust.caveats import caveats
from .trust.conformal import HeldOut
from .trust.trust import Trust

A = TypeVar("A", bound=Artifact)

DIVERGED = (
    "The loss was not a finite number in epoch {epoch} of {phase!r}, where training stopped; the best weights "
    "before are kept. The usual cause is a learning rate that is too high: try a tenth of it."
)
UNKNOWN = (
    "strangers, pictures of none of the classes, will not be told apart, as the blocks have learned from the "
    "validation images too; refit=False (--no-refit) keeps these out"
)
SHOWN = 20  # of the images that were left out


class Run:
    """A run that has been checked and whose images have been read.

    Args:
        request: the arguments.
        directory: its run directory.
        experiment: images, pretrained weights and precision.
        narrator: reports progress.

    Attributes:
        learned: the splits that the final classifier learns from.
        began: when it began, by `time.monotonic()`.
        config: what determines its result, once it has started.
    """

    def __init__(self, request: Request, directory: RunDirectory, experiment: Experiment, narrator: Narrator):
        self.request, self.directory, self.experiment, self.narrator = request, directory, experiment, narrator
        self.learned: tuple[str, ...] = ("train",)
        self.began = time.monotonic()
        self.config: dict[str, Any] = {}

    def learn_from(self, splits: Collection[str], judged: bool = False) -> None:
        """Set the splits that the final classifier learns from.

        Args:
            judged: whether the evaluation is by folds, and needs no images of its own.

        Raises:
            ConfigError: no images would be left to evaluate it on, or to adjust it on.
        """
        if len(splits) > 1 and not judged and "test" not in self.experiment.pool.rows:
            raise ConfigError(
                "A refit (in finetune refit=True, --refit; in search winner='refit', --winner refit, the default with "
                "folds) also trains on the validation images, so no images would be left to evaluate it on: give a "
                "test split, such as test=0.2 (--test 0.2)."
            )
        multi_label = self.experiment.pool.multi_label
        check_adjustments(self.request.calibrate, self.request.tune_thresholds, multi_label, splits)
        self.learned = tuple(splits)

    def resolve(self, setting: Setting, images: int | None = None) -> Setting:
        """Return the setting with every open field filled in: of its training, from the number of training images.

        Args:
            images: this number; None for that of the split.
        """
        count = len(self.experiment.pool.rows["train"]) if images is None else images
        training = setting.training.resolve(count, self.experiment.pretrained.width)
        return replace(setting, training=training).with_blocks()

    def passes(self, settings: Sequence[Setting]) -> list[Pass]:
        """Plan the passes that give the features of these settings.

        Raises:
            CacheError: the disk has too little free space for them.
        """
        experiment, rows = self.experiment, self.experiment.pool.rows
        viewed = rows["train"] if len(self.learned) == 1 else np.concatenate([rows[split] for split in self.learned])
        planned = experiment.passes(experiment.cuts(settings), viewed)
        experiment.cache.check_room([(list(each.kinds.values()), each.digests) for each in planned], INSTEAD)
        return planned

    def start(self, config: Mapping[str, Any], worker: bool = False) -> None:
        """Write the configuration to the run directory, or check that the directory holds the same run.

        Args:
            config: what determines the result besides the experiment, ready for JSON.
            worker: whether this process takes part in a run that another process has begun.

        Raises:
            RunError: the directory holds another run.
        """
        adjusted = {"calibrate": self.request.calibrate, "tune_thresholds": self.request.tune_thresholds}
        self.config = {**self.experiment.config, **config, **adjusted}
        if worker:
            self.directory.check_same(self.config)
        else:
            self.directory.start(self.config, self.request.arguments())

    @property
    def audit(self) -> dict[str, Any]:
        """The audit of the data, and the images that were left out."""
        pool = self.experiment.pool
        return {**pool.audit.to_dict(), "left_out": list(pool.left_out)}

    def introduce(self, about: str, notes: Iterable[str], cost: Estimate) -> None:
        """Announce what will be done and what it will cost, and write down what was read."""
        self.directory.write_json("audit.json", self.audit)
        self.directory.write_table("splits.csv", self.experiment.pool.table())
        self.directory.write_json("estimate.json", cost.to_dict())
        introduce(self.experiment, about, notes, cost, self.narrator)

    def finish(self, bank: FeatureBank, setting: Setting, fitted: Fitted, kind: type[A], held: Held | None = None) -> A:
        """Evaluate on every split that was not learned from, and write all results but the classifier itself.

        Args:
            setting: the setting of the classifier.
            fitted: what it learned.
            kind: the class of the classifier.
            held: predictions from before a refit, which are evaluated besides.
        """
        experiment, request, directory = self.experiment, self.request, self.directory
        cut = experiment.phases(setting)[-1].cut(setting.head)
        network = experiment.assemble(setting, fitted.weights)
        judged = judge(
            network,
            cut,
            bank.inputs(cut),
            experiment.pool,
            experiment.exact_features,
            calibrate=request.calibrate,
            tune_thresholds=request.tune_thresholds,
            learned=self.learned,
            held=held,
        )
        found = caveats(judged.evaluations, fitted.history)
        summary = judged.to_dict() | {"caveats": found}
        for evaluation in judged.evaluations.values():
            tell = self.narrator.conclude if evaluation is judged.final else self.narrator.say
            tell(repr(evaluation))
        for sentence in found:
            self.narrator.say(f"Note: {sentence}.")
        if judged.calibration:
            self.narrator.say(str(judged.calibration))
        directory.write_json("evaluation.json", summary)
        directory.write_table("history.csv", fitted.history)
        write_pictures(directory, judged.pictures)
        insight = self._insight(bank, cut, judged.final)
        if lost := [row for row in fitted.history if not math.isfinite(row.get("loss", 0.0))]:
            warnings.warn(DIVERGED.format(**lost[0]), stacklevel=2)
        about = self.note_time()
        more: dict[str, Any] = {"pictures": judged.pictures, "insight": insight, "run_dir": directory.path}
        record = Record(self.config, about, self.audit, summary, **more)
        trust = self._trust(bank, network, cut, judged)
        return kind(network, judged.description, judged.final, fitted.history, self._seen(), record, trust)

    def note_time(self) -> dict[str, Any]:
        """Write down how long the run took, with what is needed to repeat it, which is returned."""
        seconds = time.monotonic() - self.began
        about = environment(self.request.arguments(), seconds) | {"seconds": round(seconds, 1)}
        if not self.directory.earlier:  # the time of a resumed run is not that of its last part
            self.directory.write_json("environment.json", about)
        return about

    def _trust(self, bank: FeatureBank, network: Network, cut: str | None, judged: Judged) -> Trust:
        """Find out what the classifier can know of its limits, from images that it has not learned from.

        Strangers need embeddings of validation images that no block has learned from.
        """
        pool, strangers, held_out = self.experiment.pool, None, None
        held = judged.evaluations.get("validation") or judged.evaluations.get("cross-validation")
        if held is not None and not pool.multi_label:
            held_out = HeldOut.of(held.split, held.labels, held.probabilities)
        rows = [pool.rows.get(split, np.arange(0)) for split in ("train", "validation")]
        if network.learned_blocks and "validation" in self.learned:
            self.narrator.say(f"Note: {UNKNOWN}.")
        else:
            strangers = strangers_of(bank, network, cut, rows)
        return Trust(strangers, held_out)

    def _insight(self, bank: FeatureBank, cut: str | None, evaluation: Evaluation) -> Insight:
        """Find out what the features say about the data, tell it, and write it down; nothing else follows from it."""
        directory, experiment = self.directory, self.experiment
        seen = directory.path is not None or bool(self.narrator.verbose)
        rows = experiment.pool.rows.get(evaluation.split, ())  # of folds, each image was judged by another network
        predicted = dict(zip(map(int, rows), evaluation.predicted_names, strict=True)) if len(rows) else {}
        insight = Insight.of(experiment.pool, bank, cut, predicted, shown=seen, seed=experiment.seed)
        if insight.places.names:
            directory.write_arrays(PLACES, **insight.places.arrays())
        directory.write_json("insight.json", found := insight.to_dict())
        for name, file in FILES.items():
            if found[name]:
                directory.write_table(file, found[name])
        for sentence in insight.told(directory.path):
            self.narrator.say(sentence)
        return insight

    def _seen(self) -> dict[str, str]:
        """The split of every image, by its digest, also of those that only the classifier of `start` has seen."""
        splits = {d: "train" if split in self.learned else split for d, split in self.experiment.pool.splits.items()}
        start = self.experiment.start
        return splits if start is None else start.known.with_splits(splits)

    def save(self, classifier: Artifact) -> None:
        """Write the classifier, the last file of a run, and delete the resume points."""
        if self.directory.classifier_path is not None:
            self.directory.check_there()
            classifier.save(self.directory.classifier_path, overwrite=True)
            self.directory.drop_points()
            self.narrator.conclude(f"The classifier is {self.directory.classifier_path}.")


def introduce(experiment: Experiment, about: str, notes: Iterable[str], cost: Estimate, narrator: Narrator) -> None:
    """Announce what a run does, what was noticed in the data, and what it will cost."""
    pool, found = experiment.pool, experiment.pool.audit
    most = SHOWN if narrator.verbose < 2 else len(pool.left_out)
    more = len(pool.left_out) - most
    left_out = [*pool.left_out[:most], *([f"{more} more images were left out"] if more > 0 else [])]
    for note in (*pool.notes, *left_out, *notes):
        narrator.say(f"Note: {note}.")
    if conflicts := found.of_kind("different labels"):
        narrator.say(f"Warning: equal images have different labels: {some(conflicts)}.")
    if found.summary:
        narrator.say(f"The data has {found.summary}: `vggft audit` lists them.")
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in pool.rows.items())
    narrator.say(
        f"{counts} images of {len(pool.class_names)} classes at {pool.reading.told()}; "
        f"{experiment.pretrained.name}; {about}. The blocks compute in {experiment.precision}: {experiment.why}."
    )
    narrator.say(str(cost))


def open_run(
    request: Request,
    settings: Sequence[Setting],
    directory: RunDirectory,
    devices: Devices = ONE,
) -> Run:
    """Check the arguments, read the images, and measure the machine; nothing is written to the run directory yet.

    Args:
        settings: the settings that may be trained, one for each choice of frozen blocks.
        devices: what computes.

    Raises:
        DataError, ConfigError, WeightsError, CacheError, RunError: before any training; the message says what to do.
    """
    narrator, began = Narrator(request.verbose if devices.cluster.chief else 0), time.monotonic()
    if request.resume and not directory.begun:
        narrator.say(f"Note: there is no run in {directory.path} yet, so a new one begins.")
    experiment = make_experiment(request, settings, earlier=directory.earlier, narrator=narrator, devices=devices)
    run = Run(request, directory, experiment, narrator)
    run.began = began
    run.learn_from(run.learned)
    return run
