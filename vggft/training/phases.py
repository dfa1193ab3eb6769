"""What is trained, and in which phases: the head first, then the unfrozen blocks together with the head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ..config import Head, Phase, Training
from ..errors import ConfigError
from ..features.cuts import cut_of
from ..network.blocks import BLOCKS, HEAD_BLOCKS, check_frozen, frozen_blocks, frozen_prefix, with_layers


@dataclass(frozen=True)
class Setting:
    """What is trained, and how: frozen blocks, head, and training, whose fields may be unresolved."""

    frozen: tuple[str, ...]
    head: Head
    training: Training

    def with_blocks(self) -> Setting:
        """Return the setting with the blocks of its head, if they are left open.

        A head sees blocks 3 to 5; if blocks learn, only those that follow from the end of the frozen prefix, so that
        training can start there.
        """
        if self.head.blocks is not None:
            return self
        prefix = frozen_prefix(self.frozen)
        first = BLOCKS.index(prefix[-1]) if prefix and prefix != BLOCKS else 0
        blocks = tuple(block for block in HEAD_BLOCKS if BLOCKS.index(block) >= first)
        if self.head.pooling == "flatten":
            blocks = BLOCKS[-1:]
        return replace(self, head=replace(self.head, blocks=blocks))


@dataclass(frozen=True)
class ResolvedPhase:
    """A phase of training, with a schedule of its own and nothing left open.

    Args:
        name: name in the history and of the resume point.
        freeze: the frozen blocks.
        untouched: those of them that no earlier phase has trained, so that their features are known.
        epochs: maximum number of epochs.
        learning_rate: peak of the schedule.
        block_rates: factor on the learning rate for each block and `head`; 1 for those that are not named.
        schedule: schedule of the learning rate.
        patience: number of epochs without improvement after which the phase ends.
        keep_start: whether the weights at the start compete for the best epoch.
        from_pixels: whether the phase learns from augmented pixels rather than from frozen features.
    """

    name: str
    freeze: tuple[str, ...]
    untouched: tuple[str, ...]
    epochs: int
    learning_rate: float
    block_rates: Mapping[str, float]
    schedule: str
    patience: int
    keep_start: bool = False
    from_pixels: bool = False

    def cut(self, head: Head) -> str | None:
        """Return the layer whose frozen features the phase learns from; None if it learns from pixels."""
        return None if self.from_pixels else cut_of(self.untouched, head)


def phases_of(setting: Setting, from_pixels: bool = False, keep_start: bool = False) -> tuple[ResolvedPhase, ...]:
    """Return the phases in which a setting is trained.

    The learning rate of each block is `block_decay` times that of the block after it, unless `block_rates` names it.
    From the second phase on, the weights of the phase before are kept unless an epoch is better.

    Args:
        setting: a setting with a resolved `training`.
        from_pixels: whether every epoch has new augmented pixels, which the last phase then learns from.
        keep_start: whether the head that the first phase starts from is kept unless an epoch is better.

    Raises:
        ConfigError: the phases train a block that is frozen, or leave out one that is not.
    """
    training, found, trained = setting.training, list[ResolvedPhase](), set[str]()
    decayed = {block: training.block_decay**distance for distance, block in enumerate(reversed(BLOCKS))}
    for phase in _planned(setting):
        freeze = frozen_blocks(phase.freeze)
        learning = tuple(block for block in BLOCKS if block not in freeze)
        trained.update(learning)
        epochs, rate = training.epochs, training.learning_rate or 0.0
        if learning:
            epochs, rate = training.fine_tune_epochs, training.fine_tune_learning_rate or 0.0
        epochs = phase.epochs or epochs or 1
        name = "blocks and head" if learning and training.phases == "standard" else _name(learning)
        same = sum(each.freeze == freeze for each in found)
        found.append(
            ResolvedPhase(
                f"{name} ({same + 1})" if same else name,
                freeze,
                tuple(block for block in freeze if block not in trained),
                epochs,
                rate if phase.learning_rate is None else phase.learning_rate,
                {**decayed, **(phase.block_rates or training.block_rates or {})},
                phase.schedule or training.schedule,
                phase.patience or training.patience or epochs,
                keep_start=bool(found) or keep_start,
            )
        )
    _check(setting, trained, [phase.freeze for phase in found])
    found[-1] = replace(found[-1], from_pixels=from_pixels)
    return tuple(found)


def check_names(settings: Iterable[Setting], column: str) -> None:
    """Raise `ConfigError` if something that is frozen, in a phase or in all, is not in a column of Table 1."""
    for setting in settings:
        phases = setting.training.phases
        own = [] if isinstance(phases, str) else [frozen_blocks(phase.freeze) for phase in phases]
        for frozen in (setting.frozen, *own):
            check_frozen(frozen, column)


def _planned(setting: Setting) -> Iterator[Phase]:
    """Yield the phases as they are configured."""
    learning, phases = [block for block in BLOCKS if block not in setting.frozen], setting.training.phases
    if not isinstance(phases, str):
        yield from phases
        return
    yield Phase("all")
    for first in range(len(learning) - 1, -1, -1) if phases == "gradual" else (0,) if learning else ():
        yield Phase(cast(Any, with_layers((b for b in BLOCKS if b not in learning[first:]), setting.frozen)))


def _name(learning: Sequence[str]) -> str:
    """Name a phase by what learns: `head`, `block5 and head`, `block2, block5 and head`, `block1 to block5 and head`.

    >>> _name(("block3", "block4", "block5"))
    'block3 to block5 and head'
    """
    if len(learning) > 2 and int(learning[-1][-1]) - int(learning[0][-1]) == len(learning) - 1:
        learning = (f"{learning[0]} to {learning[-1]}",)
    return f"{', '.join(learning)} and head" if learning else "head"


def _check(setting: Setting, trained: set[str], phases: Sequence[tuple[str, ...]]) -> None:
    """Raise `ConfigError` unless exactly what is not frozen is trained by some phase."""
    held = [name for name in setting.frozen if not all({name, name.split("_")[0]} & {*freeze} for freeze in phases)]
    left = [block for block in BLOCKS if block not in trained and block not in setting.frozen]
    never = tuple(block for block in BLOCKS if block not in trained)
    if held or left:
        told = f"train {', '.join(held)}, which freeze= holds" if held else f"never train {', '.join(left)}"
        raise ConfigError(
            f"Training.phases {told}; they have to train every block that freeze= leaves unfrozen, and no other. "
            f"With these phases, give freeze={never or 'none'!r}."
        )


def refitted(setting: Setting, epochs: Mapping[str, int], exact: bool = False) -> Setting:
    """Return a setting whose phases last as long as was best, and without those that were no improvement.

    Args:
        setting: a setting with a resolved `training`.
        epochs: the best epoch of each phase by its name, 0 if none was better than the weights before it.
        exact: whether the head is solved exactly, without epochs.
    """
    training, phases = setting.training, phases_of(setting)  # the first is of one epoch at least: a refit trains
    best = {phase.name: epochs.get(phase.name, phase.epochs) for phase in phases}
    helped = [phase for phase in phases if best[phase.name] or phase is phases[0]]
    frozen = with_layers((b for b in BLOCKS if all(b in phase.freeze for phase in helped)), setting.frozen)
    if training.phases == "standard":
        head, blocks = max(1, best["head"]), best.get("blocks and head") or training.fine_tune_epochs
        return replace(setting, frozen=frozen, training=replace(training, epochs=head, fine_tune_epochs=blocks))
    own = [
        Phase(
            phase.freeze,
            max(1, best[phase.name]),
            phase.learning_rate,
            phase.block_rates,
            cast(Any, phase.schedule),
            phase.patience,
        )
        for phase in helped
    ]
    if exact:
        own[0] = Phase("all")
    return replace(setting, frozen=frozen, training=replace(training, phases=tuple(own)))
