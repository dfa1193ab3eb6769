"""A file of settings (`--config`) -> defaults that the command line overrides: JSON, TOML or YAML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import typer

from ..errors import ConfigError
from ..fields import Config, refuse_unknown, shown
from ..files.documents import DocumentError, check_values, read_document
from ..files.opening import open_file
from ..network.blocks import BLOCKS
from ..tuning.space import Range, SearchSpace
from .words import choice

# In a run's config.json, but not arguments.
RESULTS = {
    "backbone_digest",
    "data_fingerprint",
    "stored_as",
    "splits",
    "start",
    "candidates",
    "deeper",
    "first_trials",
    "groups_digest",
}
MOST_BYTES = 2_000_000
ADJUSTMENTS = ("calibrate", "tune_thresholds")  # which not every command can do; False is the default of all
OF_FINETUNE = ("refit", "time_limit")  # which other commands leave out, and say so
ARGUMENTS = {"frozen": "freeze", "search": "space"}  # names in a run's config.json -> arguments


def read_defaults(
    path: Path, command: str, sections: Mapping[str, type[Config]], plain: Mapping[str, type[Config]]
) -> dict[str, dict[str, Any]]:
    """Read and check the settings in a file, which may be the `config.json` of a run.

    Args:
        path: a file that ends in .json, .toml, .yaml or .yml.
        command: name of the command, for messages.
        sections: section -> the configuration whose fields it has, such as `training`.
        plain: any name -> a configuration whose fields are at the top level.

    Returns:
        name in `sections` or `plain` -> the fields in the file and their values, if there are any.

    Raises:
        ConfigError: the file cannot be read, or has unknown names or impossible values; the message names the key.
    """
    content = _parse(path)
    if not (isinstance(content, dict) and all(isinstance(name, str) for name in content)):
        raise ConfigError(f"{path} must hold settings by name; got {type(content).__name__}.")
    known = {field.name: name for name, cls in plain.items() for field in fields(cls)}  # type: ignore[arg-type]
    if "data_fingerprint" in content:
        content = _arguments(content)
        for name in [name for name in OF_FINETUNE if name in content and name not in known]:
            typer.echo(
                f"{path}: {name}={content.pop(name)!r} is left out, as `vggft {command}` has no such setting.", err=True
            )
    found: dict[str, dict[str, Any]] = {}
    for name in sections:
        if (section := content.pop(name, None)) is not None:
            if not isinstance(section, dict):
                what = "settings by name; a function can only be given in Python"
                raise ConfigError(f"{path}: {name} must be a section of {what}; got {shown(section)}.")
            found[name] = section
    inside = [f"{name}.{field.name}" for name, cls in sections.items() for field in fields(cls)]  # type: ignore[arg-type]
    names = [*content, *(f"{name}.{key}" for name, section in found.items() for key in section)]
    refuse_unknown(f"{path}: `vggft {command}` has no setting", names, [*inside, *known])
    for key, value in content.items():
        found.setdefault(known[key], {})[key] = value
    return {name: _checked(path, name, {**sections, **plain}[name], values) for name, values in found.items()}


def _parse(path: Path) -> Any:
    kind = path.suffix.lower()
    if kind == ".json":
        return read_document(path, Any, ConfigError)
    try:
        with open_file(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path} has more than {MOST_BYTES / 1e6:.0f} MB, too much for settings.")
        text = content.decode("utf-8")
        if kind == ".toml":
            return _within_bounds(path, tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not valid {kind[1:].upper()}: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if kind not in (".yaml", ".yml"):
        raise ConfigError(f"--config reads .json, .toml, .yaml and .yml files; got {path}.")
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            f"{path} is YAML, which needs PyYAML: pip install pyyaml. JSON and TOML need nothing."
        ) from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Also reads 1e-4 as a number, as in YAML 1.2."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "-+0123456789"
    )
    try:
        return _within_bounds(path, yaml.load(text, Loader))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not valid YAML: {error}.") from None


def _within_bounds(path: Path, content: Any) -> Any:
    try:
        check_values(content)
    except DocumentError as error:
        raise ConfigError(f"{path} {error}.") from None
    return content


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in the `config.json` of a run, without its results."""
    unused = RESULTS | {name for name in ADJUSTMENTS if not config.get(name)}
    found = {ARGUMENTS.get(name, name): value for name, value in config.items() if name not in unused}
    if found.get("freeze") == list(BLOCKS):
        found["freeze"] = "auto" if config.get("deeper") else "all"
    if "time_limit" in found:
        found["time_limit"] = f"{found['time_limit']:g}s"
    if (config.get("precision"), config.get("stored_as")) == ("float32", "float16"):  # the choice of "auto"
        found["precision"] = "auto"
    return found


def _checked(path: Path, name: str, cls: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """Convert the values to those of the configuration; errors name the file and the key."""
    try:
        if cls is SearchSpace:
            values = {key: _choices(key, value) for key, value in values.items()}
        made = cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).replace(f'{cls.__name__}.', f'{name}.', 1)}") from None
    return {key: getattr(made, key) for key in values}


def _choices(name: str, value: Any) -> Any:
    """Read a field of a search space: text as on the command line, or a range as its fields or as such text."""
    if isinstance(value, dict):
        try:
            return astuple(Range(**value))
        except TypeError:
            told = 'for example {low = 1e-4, high = 1e-2, sampling = "log"}'
            raise ConfigError(
                f"space.{name}: a range has low, high and optionally sampling, {told}; got {shown(value)}."
            ) from None
    return choice(name, value) if isinstance(value, str) else value
