"""Answer an argument that does not exist with the nearest one that does, and where it belongs."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from .errors import ArgumentError, short_traceback

P = ParamSpec("P")
R = TypeVar("R")

# Configurations and the argument that takes them; the classes are added as they are defined.
PLACES = {"Training": "training", "Head": "head", "Augment": "augment", "SearchSpace": "space"}
CONFIGURATIONS: dict[str, type] = {}

# Arguments that only some functions have.
ELSEWHERE = {"folds": "cross_validate and search", "repeats": "cross_validate and search"} | dict.fromkeys(
    ("trials", "algorithm", "objective", "space", "winner", "keep_top", "parallel_trials"), "search"
)

# What the same things are called elsewhere.
SYNONYMS = {
    word: name
    for name, words in {
        "algorithm": "tuner oracle sampler",
        "augment": "augmentation augmentations transform transforms data_augmentation",
        "backbone": "base_model model pretrained pretrained_weights weights architecture",
        "batch_norm": "batchnorm batch_normalization bn",
        "batch_size": "batch batchsize bs minibatch_size",
        "brightness": "brightness_range",
        "callbacks": "callback",
        "class_weight": "class_weights",
        "clip_norm": "clipnorm global_clipnorm gradient_clip grad_clip max_grad_norm",
        "crop": "zoom zoom_range random_crop",
        "dropout": "dropout_rate drop_rate drop",
        "ema_momentum": "ema use_ema",
        "epochs": "epoch n_epochs num_epochs nb_epochs nb_epoch max_epochs",
        "erase": "random_erasing cutout",
        "fine_tune_learning_rate": "fine_tune_lr finetune_lr",
        "flip": "hflip horizontal_flip fliplr random_flip mirror",
        "folds": "n_splits n_folds num_folds k cv",
        "freeze": "frozen freeze_blocks trainable unfreeze",
        "group": "groups group_by group_column",
        "image_size": "img_size input_shape input_size target_size size resolution",
        "l2": "l2_reg regularization kernel_regularizer",
        "label_smoothing": "smoothing",
        "learning_rate": "lr learningrate base_lr init_lr initial_learning_rate",
        "metrics": "metric",
        "num_classes": "n_classes nb_classes classes num_labels n_labels nclasses",
        "optimizer": "opt optim optimiser",
        "patience": "early_stopping early_stopping_patience",
        "pooling": "pool",
        "precision": "dtype mixed_precision fp16",
        "repeats": "executions_per_trial",
        "rotate": "rotation rotation_range degrees random_rotation",
        "run_dir": "output_dir out_dir save_dir log_dir logdir output save_path directory project_name",
        "schedule": "scheduler lr_schedule lr_scheduler",
        "seed": "random_state random_seed",
        "space": "hypermodel search_space",
        "start": "checkpoint classifier init_from",
        "test": "test_split test_size test_data",
        "time_limit": "timeout max_time time_budget",
        "trials": "n_trials num_trials max_trials",
        "units": "hidden_units hidden dense_units num_units hidden_layers",
        "validation": "validation_split validation_data val val_split valid val_size val_data",
        "verbose": "verbosity",
        "vertical_flip": "vflip flipud",
        "weight_decay": "decay wd",
    }.items()
    for word in words.split()
}


def answers(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, or an `__init__`, so that a call with other arguments than it has is answered in words.

    The signature stays as it is, and tracebacks are short. Functions that take `**arguments` answer for these
    themselves, by `refuse_arguments`.
    """
    signature, where = inspect.signature(function), function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise refusal(where, signature, args, kwargs, error) from None
        return function(*args, **kwargs)

    return short_traceback(checked)


def refusal(
    where: str, signature: inspect.Signature, args: tuple[Any, ...], given: Mapping[str, Any], error: TypeError
) -> ArgumentError:
    """Return the error of a call that does not fit a signature, which Python has raised `error` for."""
    known = [name for name in signature.parameters if name != "self"]
    if unknown := {name: value for name, value in given.items() if name not in known}:
        return ArgumentError(" ".join(answer(where, name, value, known) for name, value in unknown.items()))
    if "too many positional" in str(error):
        first = [name for name, each in signature.parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
        first = [name for name in first if name != "self"]
        named = f": name the others, such as {known[len(first)]}=..." if len(known) > len(first) else ""
        return ArgumentError(f"{where} takes {', '.join(first)} by position; got also {_short(args[-1])}{named}.")
    return ArgumentError(f"{where}: {error}.")


def refuse_arguments(where: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise `ArgumentError` for the names among `given` that are unknown."""
    known = list(known)
    if told := [answer(where, name, value, known) for name, value in given.items() if name not in known]:
        raise ArgumentError(" ".join(told))


def answer(where: str, name: str, value: Any, known: list[str]) -> str:
    """Say in a sentence where an argument belongs.

    >>> answer("finetune", "sed", 3, ["seed", "test"])
    'finetune has no argument sed: did you mean seed?'
    """
    right = SYNONYMS.get(name.lower(), name.lower())
    alike = [right, *(word for word, its in SYNONYMS.items() if its == right)]
    if mine := [word for word in alike if word in known]:
        return f"{where} has no argument {name}: did you mean {mine[0]}?"
    places = {kind: _fields(kind) for kind in PLACES}
    homes = [kind for kind, fields in places.items() if right in fields and kind != where]
    if not homes and (close := difflib.get_close_matches(right, known, n=1, cutoff=0.75)):
        return f"{where} has no argument {name}: did you mean {close[0]}?"
    if not homes:
        others = [field for kind, fields in places.items() for field in fields if kind != where]
        right = next(iter(difflib.get_close_matches(right, others, n=1, cutoff=0.8)), right)
        homes = [kind for kind, fields in places.items() if right in fields and kind != where]
    # A search has the field in its space too, but what is given as one value is not searched.
    if homes:
        kind = homes[0]
        made = f"vggft.{kind}({right}={_short(value)})"
        made = f"{PLACES[kind]}={made}" if PLACES[kind] in known else made
        searched = "space" in known and "SearchSpace" in homes[1:]
        more = f", or to search it space=vggft.SearchSpace({right}=[...])" if searched else ""
        return f"{name} belongs in {kind}: {made}{more}."
    if right in ELSEWHERE:
        return f"{where} has no argument {name}: {right} is one of {ELSEWHERE[right]}."
    return f"{where} has no argument {name}; it has {', '.join(known)}."


def _fields(kind: str) -> list[str]:
    cls: Any = CONFIGURATIONS.get(kind)
    return [field.name for field in dataclasses.fields(cls)] if cls is not None else []


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # of a class of the user's own
        text = "..."
    return text if len(text) <= 60 else "..."
