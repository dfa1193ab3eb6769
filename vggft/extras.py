"""Packages that only some uses need: which they are, and how they are installed, told before anything slow begins."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ConfigError

# The extras of pyproject.toml -> the modules that they bring.
EXTRAS: dict[str, tuple[str, ...]] = {
    "onnx": ("tf2onnx", "onnxruntime", "onnx"),
    "litert": ("ai_edge_litert",),
    "serve": ("starlette", "uvicorn", "python_multipart"),
    "draw": ("pydot",),
    "dicom": ("pydicom",),
    "tiff": ("tifffile",),
}
OF_EXPORTS = {".onnx": "onnx", ".tflite": "litert"}  # suffix of an export -> the extra that it needs


def missing(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed, as they are called on package indexes."""
    return [name.replace("_", "-") for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def remedy(extra: str) -> str:
    """Say how to install what an extra needs, also where vggft itself is on no index but a checkout.

    >>> remedy("onnx")
    'pip install tf2onnx onnxruntime onnx (the extra vggft[onnx])'
    """
    names = " ".join(name.replace("_", "-") for name in EXTRAS[extra])
    return f"pip install {names} (the extra vggft[{extra}])"


def check_extra(extra: str | None, doing: str) -> None:
    """Raise `ConfigError` unless the packages of an extra are installed; nothing is imported.

    Args:
        extra: its name; None needs nothing.
        doing: what needs it, such as "Serving".
    """
    if extra and (names := missing(extra)):
        raise ConfigError(f"{doing} needs {' and '.join(names)}: {remedy(extra)}.")


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, instead: str) -> Any:
    """Return rows as a `pandas.DataFrame`; `instead` is what needs no pandas.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ConfigError(f"to_frame needs pandas: pip install pandas. `{instead}` needs nothing.") from None
    return pd.DataFrame(list(rows), columns=columns and list(columns))
