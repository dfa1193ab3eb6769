"""Turn the fields of configurations into options of commands, so that each is declared only once."""

from __future__ import annotations

import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from ..augment import Augment
from ..config import Head, Phase, Training
from ..errors import ConfigError
from ..fields import Config, Count
from ..network.blocks import BLOCKS
from ..tuning.space import SearchSpace
from ..weightfiles.presets import PRESETS
from .defaults import read_defaults
from .flags import ConfigFile
from .words import CHOICE, READ, Bands, Freeze, Names, Size, ValueRange, choice, value


class Options(Config):
    """Base class of configurations without a section in a settings file: their fields are at its top level."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix(f"{type(self).__name__}.")) from None


@dataclass(frozen=True)
class DataOptions(Options):
    r"""How the data is read and split.

    Args:
        num_classes: Number of classes; checked against the data. Without it, it is read off the data.
        validation: Validation images: a fraction of the images that are not test images, or another dataset.
        test: Test images: a fraction of all images, or another dataset; only the final evaluation uses them.
        group: Images that no split may divide, such as those of one patient: the name of a column, or a regular
            expression that finds the group in the file name, such as `(patient\d+)`; or `near-duplicates`.
        image_size: Side of the network's input in pixels, or height x width, `224x320`; the backbone's own by default.
        resize: How images are fitted to it: the whole image squashed, its middle cropped, or the whole padded.
        value_range: Black and white of images that have not 8 bits, `0,4095`; by default decided by all images.
        bands: The bands that are red, green and blue, `0,1,2`, of images that have others than RGB, RGBA or grey.
        on_bad_image: Whether unusable images stop the run, with a list of them, or are left out.
        class_names: Names of the classes: what the labels 0, 1, ... stand for, and their order.
    """

    num_classes: Count | None = None
    validation: float | str = 0.2
    test: float | str | None = None
    group: str | None = None
    image_size: Size = None
    resize: Literal["squash", "crop", "pad"] = "squash"
    value_range: ValueRange = None
    bands: Bands = None
    on_bad_image: Literal["raise", "skip"] = "raise"
    class_names: Names | None = None


@dataclass(frozen=True)
class BackboneOptions(Options):
    """The pretrained blocks.

    Args:
        backbone: Pretrained blocks: `vgg16_imagenet`, `vgg16_mini`, a file of weights or of a model (.keras,
            .weights.h5, .h5, .npz) that contains a VGG, or `none` for random weights.
        freeze: Frozen blocks: `all`, `none`, `block3` for blocks 1 to 3, `block5_conv2` for all through it, or, for
            finetune, `auto`, which finds out.
        precision: Precision of the blocks; `auto` is the fastest on this machine.
    """

    backbone: str = "vgg16_imagenet"
    freeze: Freeze = "all"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


@dataclass(frozen=True)
class AdjustOptions(Options):
    """How a trained classifier is adjusted.

    Args:
        calibrate: Fit a temperature on the validation images, so that probabilities match observed frequencies.
        tune_thresholds: Fit a threshold for each label on the validation images, if images have several labels.
    """

    calibrate: bool = False
    tune_thresholds: bool = False


@dataclass(frozen=True)
class RunOptions(Options):
    """Where a run is kept.

    Args:
        run_dir: New directory for all results; by default a numbered one in runs/.
        resume: Continue the run in `--run-dir`.
        seed: Seed of splits, initial weights, order, dropout and the draws of a search.
        verbose: 0 prints only the result, as `--quiet` does.
    """

    run_dir: Path | None = None
    resume: bool = False
    seed: int = 0
    verbose: int = 1


# Every other field of a configuration in a command's signature is an option of the command.
NOT_OPTIONS = {(RunOptions, "verbose"), (Training, "loss")}  # the former is --quiet and --verbose

# What most people need, in the first group of the help, and what may be completed.
COMMON = "test validation backbone freeze augment epochs learning_rate units trials folds run_dir resume seed".split()
WORDS = {"backbone": (*PRESETS, "none"), "freeze": ("all", "none", "auto", *BLOCKS)}
PANELS = {Augment: "Augmentation", SearchSpace: "Search space"}  # others: the name of the class, without Options
WITHOUT_SWITCH = (Head,)  # there is no training without a head: None leaves it to the run
ONLY_IN_PYTHON = (Any, tuple[Phase, ...])  # types of fields, or parts of them, that an option cannot be


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Args:
        owner: the parameter of the command, a configuration, that gets the value.
        annotation: type and `typer.Option`.
        default: the default as shown in the help.
        read: converts typer's value to that of the field.
    """

    owner: str
    annotation: Any
    default: Any
    read: Callable[[Any], Any] = lambda value: value


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Expand each parameter of a command that is a configuration into one option for each of its fields.

    A parameter that may be None, such as `augment: Augment | None`, is None unless one of its fields or a section in
    the file is given, or a switch of its name, which those have that are not `WITHOUT_SWITCH`. If the command has a
    `SearchSpace`, fields that can be searched are options of the space, which take one value, a list, or a range. The
    command also gets `--config`, a file with settings that the command line overrides.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Config]] = {}
    for name, hint in hints.items():
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and issubclass(kind, Config):
                groups[name] = kind
    optional = {name for name in groups if NoneType in get_args(hints[name])}
    switches = {name for name in optional if groups[name] not in WITHOUT_SWITCH}
    sections = {name: cls for name, cls in groups.items() if not issubclass(cls, Options)}
    plain = {name: cls for name, cls in groups.items() if issubclass(cls, Options)}
    options = dict(_options(groups, switches))
    own = [each for name, each in inspect.signature(command, eval_str=True).parameters.items() if name not in groups]

    @functools.wraps(command)
    def run(context: typer.Context, config: Path | None, **values: Any) -> Any:
        found = read_defaults(config, str(context.info_name), sections, plain) if config else {}
        given = {name for name in options if context.get_parameter_source(name).name != "DEFAULT"}  # type: ignore[union-attr]
        for name in given - switches:
            found.setdefault(options[name].owner, {})[name] = options[name].read(values[name])
        for name in switches & given:
            if values[name]:
                found.setdefault(name, {})
            elif refining := [other for other in given - {name} if options[other].owner == name]:
                raise ConfigError(f"--no-{name} contradicts {', '.join(map(_flag, sorted(refining)))}.")
            else:
                found.pop(name, None)
        made = {
            name: cls(**found.get(name, {})) for name, cls in groups.items() if name in found or name not in optional
        }
        return command(**dict.fromkeys(groups) | {each.name: values[each.name] for each in own} | made)

    new = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    made = [new(name, annotation=option.annotation, default=option.default) for name, option in options.items()]
    expanded = [new("context", annotation=typer.Context)]
    expanded += sorted(made, key=lambda each: COMMON.index(each.name) if each.name in COMMON else len(COMMON))
    expanded += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    expanded.append(new("config", annotation=ConfigFile, default=None))
    run.__annotations__ = {each.name: each.annotation for each in expanded}
    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return run


def _options(groups: Mapping[str, type[Config]], switches: set[str]) -> Iterator[tuple[str, Option]]:
    searched = {field.name for field in fields(SearchSpace)} if SearchSpace in groups.values() else set()
    hints: dict[str, Any] = {}
    helps = help_of(SearchSpace)
    for owner, cls in groups.items():
        if owner in switches:
            told = (cls.__doc__ or "").partition(".")[0] + "."
            yield owner, Option(owner, _typed(bool | None, cls, told, owner), None)
        for field in fields(cls):  # type: ignore[arg-type]
            hint = get_type_hints(cls)[field.name]
            if cls is SearchSpace:
                yield field.name, _searched(owner, field, hints.get(field.name), helps.get(field.name, ""))
            elif field.name in searched:
                hints[field.name] = hint
                if hint != tuple[int, ...]:  # several values mean something else in a space
                    helps[field.name] = help_of(cls).get(field.name, "")
            elif (cls, field.name) not in NOT_OPTIONS:
                yield field.name, _option(owner, cls, field, hint)


def _option(owner: str, cls: type[Config], field: Field[Any], hint: Any) -> Option:
    """Make the option of a field, either of a type that typer knows or as text that `read` converts."""
    hint = _written_as(hint)
    told, union = help_of(cls).get(field.name, ""), get_origin(hint) in (Union, UnionType)
    if hint in READ:
        read, how = READ[hint]
        kind = _typed(str | None, cls, told + how, field.name)
        return Option(owner, kind, _written(field.default, ","), read)
    if union and field.default is not None:  # None, or a word, is a value of its own
        words = [word for part in get_args(hint) for word in (["none"] if part is NoneType else get_args(part))]
        told = f"{told} Or {' or '.join(words)}."
        return Option(owner, _typed(str, cls, told, field.name), str(field.default), value)
    return Option(owner, _typed(hint, cls, told, field.name, show_default=field.default is not False), field.default)


def _written_as(hint: Any) -> Any:
    """Return the type of a field without what can only be given in Python or in a file."""
    if get_origin(hint) not in (Union, UnionType) or not any(part in ONLY_IN_PYTHON for part in get_args(hint)):
        return hint
    return functools.reduce(operator.or_, [part for part in get_args(hint) if part not in ONLY_IN_PYTHON])


def _searched(owner: str, field: Field[Any], hint: Any, told: str) -> Option:
    """Make the option of a field that can be searched."""
    words = [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)]
    told += f" Of {', '.join(words)}." if words else ""
    ranges = {int, float} & {hint, *get_args(hint)} or field.name in ("units", "layers")
    told += f" {CHOICE}" if ranges else " One value, or a list `a,b`."
    how: dict[str, Any] = {"metavar": "CHOICE", "autocompletion": lambda: list(WORDS.get(field.name, words))}
    annotation = _typed(str | None, SearchSpace, told, field.name, **how)
    return Option(owner, annotation, _written(field.default, ":"), functools.partial(choice, field.name))


def _typed(kind: Any, cls: type[Config], told: str, name: str, **how: Any) -> Any:
    panel = None if name in COMMON else PANELS.get(cls, cls.__name__.removesuffix("Options"))
    if name in WORDS:
        how = {"autocompletion": lambda: list(WORDS[name])} | how
    return Annotated[kind, typer.Option(help=told, rich_help_panel=panel, **how)]


def _written(default: Any, between: str) -> str | None:
    """Write a default as on the command line."""
    return between.join(map(str, default)) if isinstance(default, tuple) else None if default is None else str(default)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def help_of(cls: type[Config]) -> dict[str, str]:
    """Return the first sentence about each field in the `Args:` section of a docstring; `a, b: ...` is about both.

    >>> help_of(Augment)["flip"]
    'Mirror half of the images left to right.'
    """
    text = inspect.getdoc(cls) or ""
    found = re.findall(r"^    (\w[\w, ]*): (.+(?:\n {5,}.+)*)", text.partition("Args:\n")[2], re.MULTILINE)
    told = {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}
    first = {name: re.split(r"[.](?= [A-Z0-9]|$)", text)[0] for name, text in told.items()}
    return {name: f"{text[:1].upper()}{text[1:]}." for name, text in first.items()}
