"""Train one setting, phase by phase, for `finetune`, trials and refits: by Keras's `fit`, or a head directly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..features.cuts import is_pooled
from ..heads.batches import FeatureBank
from ..heads.population import Member, fit_in_memory, train_population, why_alone
from ..heads.probe import is_exact, train_probe
from ..heads.resampling import Fitted, Fold, continued, ending_of
from ..network.blocks import BLOCKS
from ..network.forward import between, forward
from ..network.freezing import assign_weights, check_movement, layer_digests, learned_weights, set_frozen
from ..network.head import head_model
from ..run import RunDirectory
from ..telling.progress import Narrator
from .callbacks import write_curves
from .experiment import Experiment
from .fit import begin_head, fit_phase
from .jobs import Job, train_together
from .optimizers import Carried
from .phases import ResolvedPhase, Setting

MOST_STEPS = 20_000  # of a head that is trained without resume points, which takes about 10 seconds
STEPS_AT_ONCE = 8  # of a head on vectors, whose steps are so short that returning to Python takes longer


def train(
    experiment: Experiment,
    bank: FeatureBank,
    setting: Setting,
    fold: Fold,
    *,
    run: RunDirectory,
    narrator: Narrator,
    tensorboard: bool = False,
    predict: bool = False,
    head: Fitted | None = None,
    begun: Fitted | None = None,
    epochs: int = 0,
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    deadline: float | None = None,
) -> Fitted:
    """Train a setting on a fold, phase by phase.

    Args:
        bank: a bank with the features of every cut that the phases start from.
        setting: a setting with a resolved `training`.
        run: where resume points and TensorBoard's curves are kept.
        tensorboard: whether to write curves.
        predict: whether to predict the validation images with the network that would be saved.
        head: a head that has been trained on this fold already; None to train it here.
        begun: what a shorter training of the setting has learned on this fold, whose last phase continues; None to
            train from the start.
        epochs: number of epochs that this phase had.
        callbacks: callbacks of Keras, for which even a head alone is trained by `fit`.
        metrics: metrics of Keras for the history, likewise.
        deadline: by `time.monotonic()`, at which blocks stop learning.

    Raises:
        FreezeError: a frozen block changed, or an unfrozen one did not.
    """
    phases = experiment.phases(setting)
    if begun is not None:
        phases = (replace(phases[-1], epochs=max(1, phases[-1].epochs - epochs), keep_start=True),)
        fold = replace(fold, seed=fold.seed + epochs)  # else its batches would be those that it had before
    cuts = [phase.cut(setting.head) for phase in phases]
    seed, pool, history = fold.seed, experiment.pool, list[dict[str, Any]]()
    direct = head
    if head is None and phases[0].freeze == BLOCKS and not (callbacks or metrics):
        direct = _train_directly(experiment, bank, setting, fold, phases[0], narrator, begun)
    if direct is not None and tensorboard and run.path is not None:
        write_curves(run.path / "tensorboard" / phases[0].name, direct.history)
    if direct is not None and setting.frozen == BLOCKS and len(phases) == 1:
        return direct if begun is None else replace(direct, history=continued(begun.history, direct.history))
    with experiment.devices.scope():
        if setting.frozen == BLOCKS and None not in cuts:  # the head alone, on vectors
            sizes, classes = experiment.describe(setting).sizes, len(pool.class_names)
            model = head_model(sizes, setting.head, classes, multi_label=pool.multi_label, seed=seed)
            layers: list[str | None] = ["features"] * len(phases)
        else:
            model, layers = experiment.network(setting, seed), cuts
        todo = list(zip(phases, layers, cuts, strict=True))
        if direct is not None:
            assign_weights(model, direct.weights)
            history, todo = direct.history, todo[1:]
        elif begun is not None:
            assign_weights(model, begun.weights)
        else:
            begin_head(model, experiment, setting.head, layers[0], bank.examples(cuts[0], fold.train))
        # The head of the standard phases may have been trained directly, so these always begin with new moments.
        carried = None if setting.training.phases == "standard" else Carried()
        for phase, layer, cut in todo:
            before = layer_digests(model)
            set_frozen(model, phase.freeze)
            if experiment.crew is not None and len(phase.freeze) < len(BLOCKS):
                job = Job(
                    experiment.describe(setting),
                    model.get_weights(),
                    experiment.precision,
                    layer,
                    phase,
                    setting.training,
                    bank.examples(cut, fold.train),
                    bank.judged(cut, fold.validation),
                    seed=seed,
                    run=str(run.path and run.path.absolute()),
                    tensorboard=tensorboard,
                    carried=carried or Carried(),
                    seconds=None if deadline is None else deadline - time.monotonic(),
                    **(experiment.changes if cut is None else {}),
                )
                train_together(experiment.crew, job, run, narrator)  # after which `fit_phase` finds that it is done
            history += fit_phase(
                between(model, layer, "logits"),
                bank.examples(cut, fold.train),
                bank.judged(cut, fold.validation),
                phase,
                setting.training,
                multi_label=pool.multi_label,
                seed=seed,
                run=run,
                narrator=narrator,
                steps_at_once=STEPS_AT_ONCE if layer == "features" or is_pooled(layer) else 1,
                tensorboard=tensorboard,
                at_end=lambda rows, phase=phase, before=before: check_movement(
                    before, layer_digests(model), phase.freeze, learned=any(row["loss"] for row in rows)
                ),
                carried=carried,
                class_names=pool.class_names,
                callbacks=callbacks,
                metrics=metrics,
                deadline=deadline,
                devices=experiment.devices.here,
            )
    weights, probabilities = learned_weights(model, setting.frozen), None
    if predict and fold.validation is not None:
        if setting.frozen != BLOCKS and (experiment.precision != "float32" or experiment.devices.here.replicas > 1):
            model = experiment.assemble(setting, weights).model
        probabilities = forward(between(model, layers[-1], "predictions"), bank.inputs(cuts[-1]), rows=fold.validation)
    return Fitted(weights, continued(begun.history, history) if begun else history, probabilities)


def _train_directly(
    experiment: Experiment,
    bank: FeatureBank,
    setting: Setting,
    fold: Fold,
    phase: ResolvedPhase,
    narrator: Narrator,
    begun: Fitted | None,
) -> Fitted | None:
    """Train the head as a population of one, which spares the seconds that Keras's `fit` takes to trace its graphs.

    Returns:
        None if a population cannot have such a head, or if training would take so long that it needs resume points.
    """
    training, cut, images = setting.training, phase.cut(setting.head), len(fold.train)
    if cut is not None and is_exact(setting.head, training):
        examples, judged = bank.examples(cut, fold.train), bank.judged(cut, fold.validation)
        how: dict[str, Any] = {"multi_label": experiment.pool.multi_label, "chosen": fold.settings}
        how["class_names"] = experiment.pool.class_names
        return train_probe(setting.head, training, examples, judged, **how)
    steps = phase.epochs * -(-images // (training.batch_size or 32))
    if cut is None or steps > MOST_STEPS or why_alone(setting.head, training) or not fit_in_memory(bank.arrays(cut)):
        return None
    with narrator.bar(phase.name, phase.epochs * images) as advance:
        (fitted,) = train_population(
            [Member(setting.head, replace(training, epochs=phase.epochs))],
            bank.examples(cut, fold.train),
            bank.judged(cut, fold.validation),
            multi_label=experiment.pool.multi_label,
            seed=fold.seed,
            class_names=experiment.pool.class_names,
            start=begun.weights if begun else experiment.head_weights(setting.head),
            keep_start=phase.keep_start,
            on_epoch=lambda done: advance(done * images),
        )
        advance(0, ending_of([row | {"phase": phase.name} for row in fitted.history], phase.epochs))
    return fitted
