"""The learning rate range test (Smith, arXiv:1506.01186): which learning rate to begin with, from a hundred steps."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .api import DURING, finetune
from .arguments import answers, refuse_arguments
from .drawing.curves import LearningRateDisplay
from .drawing.display import Plotted
from .engine import own_settings
from .errors import ConfigError, counted, short_traceback
from .fields import check_count, is_number, shown, unwrapped
from .finetuning import check_keras, open_start
from .heads.batches import FIRST_ORDER, Batches, FeatureBank, class_weights
from .heads.objective import Objective
from .heads.probe import is_exact
from .network.blocks import BLOCKS
from .network.forward import between
from .pipeline import open_run
from .run import RunDirectory
from .telling.display import render
from .telling.progress import Narrator
from .training.experiment import Experiment
from .training.fit import begin_head
from .training.optimizers import half_of, make_optimizer
from .training.phases import Setting
from .training.request import Request

SMOOTHED = 0.25  # decades of the learning rate, the standard deviation of the Gaussian that smooths the losses
LEAST_FALL = 0.02  # share of the first loss that makes a fall
LOSS = "The loss against the learning rate"
DIVERGED = 4.0  # times the first loss; steps after that would tell nothing
WATCHED = 2  # batches of validation images whose loss is watched
FEWEST, MOST = 20, 100_000  # steps: what a curve needs, and more than it needs


@short_traceback
@dataclass(frozen=True, eq=False)
class LearningRates(Plotted[LearningRateDisplay]):
    """The loss of a training whose learning rate rises exponentially; `str` and `plot` show it.

    Args:
        rates: (n,) float64, the learning rate of each step.
        losses: (n,) float64, the loss in nats of some validation images before each step, always the same ones; with
            batch normalisation that of the training images of the step.
        field: the field of `Training` that the rate is for: `"learning_rate"`, or with unfrozen blocks
            `"fine_tune_learning_rate"`.
    """

    rates: np.ndarray
    losses: np.ndarray
    field: str

    @property
    def smoothed(self) -> np.ndarray:
        """(n,) the losses, smoothed by a Gaussian over a quarter of a decade."""
        a_step = math.log10(self.rates[1] / self.rates[0])
        return np.asarray(gaussian_filter1d(self.losses, SMOOTHED / a_step, mode="nearest"))

    @property
    def lowest(self) -> float:
        """The learning rate with the lowest smoothed loss: training becomes unstable from there on."""
        return float(self.rates[self.smoothed.argmin()])

    @property
    def steepest(self) -> float:
        """The learning rate at which the smoothed loss falls fastest."""
        return float(self.rates[np.gradient(self.smoothed)[: self.smoothed.argmin() + 1].argmin()])

    @property
    def suggestion(self) -> float | None:
        """The geometric mean of `steepest` and `lowest`; None if the loss falls by less than 2 %.

        A rule of thumb, chosen among several by what it gave here, with one seed each: for heads on features of
        vgg16_mini 2e-3 on EuroSAT and 7e-3 on Sign Language Digits, where of six to eight rates those of 1e-3 to 3e-3
        and of 3e-3 to 1e-2 had the best test accuracies. With block 5 unfrozen it was too low: 2.5e-4 on EuroSAT, where
        1e-3 was best of five. Other rules are `steepest` and a tenth of `lowest`.
        """
        smoothed = self.smoothed
        falls = smoothed.min() < (1 - LEAST_FALL) * smoothed[0]
        return math.sqrt(self.steepest * self.lowest) if falls else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        found = {name: getattr(self, name) for name in ("field", "suggestion", "steepest", "lowest")}
        return found | {"rates": self.rates.tolist(), "losses": self.losses.tolist()}

    def __str__(self) -> str:
        if self.suggestion is None:
            return f"The loss hardly fell from {self.rates[0]:.1e} to {self.rates[-1]:.1e}, so there is no suggestion."
        tried = f"{len(self.rates)} learning rates from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        return (
            f"Training({self.field}={self.suggestion:.1e}). Of {tried}, the loss falls fastest at "
            f"{self.steepest:.1e} and is lowest at {self.lowest:.1e}."
        )

    def _repr_html_(self) -> str:
        return render("plotted.html", told=str(self), plot=self._display().to_html(LOSS))

    def _display(self) -> LearningRateDisplay:
        return LearningRateDisplay(self)


@answers
@own_settings()
def find_learning_rate(
    dataset: Any,
    num_classes: int | None = None,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    verbose: int = 1,
    **arguments: Any,
) -> LearningRates:
    """Find a learning rate by a range test (arXiv:1506.01186): raise it from step to step, and watch the loss.

    With all blocks frozen, it is the rate of the head, `Training.learning_rate`. With some unfrozen, it is that of
    these blocks and a fresh head together, `Training.fine_tune_learning_rate`, each block at its own factor of it.
    Nothing is kept but frozen features in the cache. A classifier given as `start` stays as it is; as its head is
    trained already, the loss may have no room to fall.

    Args:
        dataset: as for `finetune`.
        num_classes: as for `finetune`.
        lowest: learning rate of the first step, > 0.
        highest: learning rate of the last step; the test ends earlier if training diverges.
        steps: number of steps, >= 20, each of one batch.
        verbose: 0 prints nothing.
        arguments: any other `finetune` argument; those that do not affect training are only checked.

    Raises:
        DataError, WeightsError, CacheError: as `finetune` would.
        ConfigError: as `finetune` would; impossible rates or steps; or a linear probe that is solved exactly.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> data = images, np.arange(40) % 2
    >>> by_epochs = vggft.Training(probe="epochs")  # a linear probe is solved exactly, without a rate
    >>> how = {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0}
    >>> found = vggft.find_learning_rate(data, 2, training=by_epochs, **how)
    >>> found.field, 1e-5 < found.suggestion < 1
    ('learning_rate', True)
    """
    refuse_arguments("find_learning_rate", arguments, inspect.signature(finetune).parameters)
    lowest, highest, steps = map(unwrapped, (lowest, highest, steps))
    if not (is_number(lowest) and is_number(highest) and 0 < lowest < highest):
        got = f"{shown(lowest)}, {shown(highest)}"
        raise ConfigError(f"lowest and highest must be learning rates with 0 < lowest < highest; got {got}.")
    check_count("steps", steps, FEWEST, MOST)
    check_keras(**{name: arguments[name] for name in DURING if name in arguments})
    asked = {name: value for name, value in arguments.items() if name not in DURING}
    start = open_start(asked.pop("start", None))
    request = Request(dataset, num_classes, verbose=verbose, start=start, **asked)
    fixed = request.fixed_setting("here give blocks, such as freeze='block4' (--freeze block4)")
    run = open_run(request, [fixed], RunDirectory(None))
    setting, experiment = run.resolve(request.setting()), run.experiment
    blocks = setting.frozen != BLOCKS
    if not blocks and experiment.transform is None and is_exact(setting.head, setting.training):
        raise ConfigError(
            "A linear probe on frozen features is solved exactly, without a learning rate; pass "
            "Training(probe='epochs') (--probe epochs) to train it by epochs."
        )
    bank = experiment.bank(run.passes([setting]), run.narrator)
    rates = np.geomspace(lowest, highest, steps)
    losses = losses_of(experiment, bank, setting, rates, run.narrator)
    if len(losses) < FEWEST / 2:
        steps_done = counted(len(losses), "step")
        raise ConfigError(f"Training diverged after {steps_done}, so lowest={lowest} (--lowest) is too high.")
    return LearningRates(rates[: len(losses)], losses, "fine_tune_learning_rate" if blocks else "learning_rate")


def losses_of(
    experiment: Experiment, bank: FeatureBank, setting: Setting, rates: np.ndarray, narrator: Narrator
) -> np.ndarray:
    """Train the last phase of a setting with one learning rate after the other (arXiv:1506.01186).

    The head starts afresh, also with unfrozen blocks: one that was trained before would have hardly any loss left that
    could fall in so few steps, at whatever rate.

    Args:
        bank: a bank with the features of every cut that the phases start from.
        setting: a setting with a resolved `training`.
        rates: (n,) the learning rate of each step, rising.

    Returns:
        (m,) the loss before each step; m < n if training diverged. It is that of some validation images, always the
        same: the differences between batches, and dropout, would hide how little the loss falls in a few steps. With
        batch normalisation, whose moving statistics would lag behind, it is the loss of the batch in training.
    """
    rows, seed, training = experiment.pool.rows, experiment.seed, setting.training
    phase, batch_size = experiment.phases(setting)[-1], training.batch_size or 32
    cut = phase.cut(setting.head)
    whole, examples = experiment.network(setting, seed), bank.examples(cut, rows["train"])
    begin_head(whole, experiment, setting.head, cut, examples)
    model = between(whole, cut, "logits")
    batches = Batches(
        examples, batch_size, seed, FIRST_ORDER, class_weights(examples, training, experiment.pool.class_names)
    )
    some = np.random.default_rng(seed).permutation(rows["validation"])[: WATCHED * batch_size]
    watched = np.asarray(bank.inputs(cut)[some]), experiment.pool.targets[some]
    optimizer = make_optimizer(training, 1.0, 1, phase.block_rates, half_of(model), schedule="constant")
    optimizer.build(model.trainable_variables)
    Objective.of(training, experiment.pool.multi_label).compile(model, optimizer)
    losses: list[float] = []
    with narrator.bar("rising learning rate", len(rates)) as advance:
        for step, rate in enumerate(rates):
            epoch, number = divmod(step, len(batches))
            batches.go_to(FIRST_ORDER + epoch)
            optimizer.learning_rate = rate
            model.reset_metrics()
            before = None if setting.head.batch_norm else model.test_on_batch(*watched, return_dict=True)
            model.reset_metrics()
            found = model.train_on_batch(*batches[number], return_dict=True)
            losses.append(float((before or found)["loss"]))
            advance(1)
            if not losses[-1] <= DIVERGED * losses[0]:  # or it is not a number
                break
    return np.array(losses)[np.isfinite(losses)]
