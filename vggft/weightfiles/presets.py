"""The table of presets, and how their files are found, downloaded and verified."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigError, WeightsError
from ..fields import shown


@dataclass(frozen=True)
class Preset:
    """A row of `PRESETS`: where the weights are, and which network they belong to."""

    file: str
    column: str
    width: float
    image_size: int
    licence: str
    about: str
    url: str | None = None  # None: shipped inside the package
    md5: str | None = None


PRESETS: dict[str, Preset] = {
    "vgg16_imagenet": Preset(
        file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        column="D",
        width=1.0,
        image_size=224,
        licence="CC BY 4.0 (Visual Geometry Group, University of Oxford)",
        about="VGG16 trained on ImageNet, as Keras Applications distributes it without its top",
        url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "vgg19_imagenet": Preset(
        file="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        column="E",
        width=1.0,
        image_size=224,
        licence="CC BY 4.0 (Visual Geometry Group, University of Oxford)",
        about="VGG19 trained on ImageNet, as Keras Applications distributes it without its top",
        url="https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="253f8cb515780f3b799900260a226db6",
    ),
    "vgg16_mini": Preset(
        file="vgg16_mini.npz",
        column="D",
        width=0.25,
        image_size=64,
        licence="CC BY 4.0 (derived from VGG16: Visual Geometry Group, University of Oxford)",
        about="VGG16 at a quarter of its width, taught by VGG16 itself with recipes/pretrain_backbone.py",
    ),
}


ALIASES = {"imagenet": "vgg16_imagenet", "vgg16": "vgg16_imagenet", "vgg19": "vgg19_imagenet"}  # as people say


def preset_of(backbone: Any) -> str | None:
    """Return the name of the preset that is meant; None for another kind of backbone, of which nothing is read.

    Raises:
        ConfigError: it is neither a preset nor something that can hold weights, or a file that does not exist.
    """
    if backbone is None or hasattr(backbone, "keras_model") or hasattr(backbone, "get_weights"):
        return None
    expected = f"one of {', '.join(PRESETS)}, a file of weights, a keras.Model,"
    expected += " or None (--backbone none) for random weights"
    if not isinstance(backbone, (str, os.PathLike)) or not str(backbone).strip():
        raise ConfigError(f"backbone must be {expected}; got {shown(backbone)}.")
    name = ALIASES.get(str(backbone).lower(), str(backbone))
    if name in PRESETS:
        return name
    if str(backbone).lower() != "none" and not os.path.exists(os.path.expanduser(backbone)):  # noqa: PTH110, PTH111 - pathlib raises for names that are too long
        close = difflib.get_close_matches(str(backbone), PRESETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"backbone must be {expected}; got {str(backbone)!r}, and there is no such file.{hint}")
    return None


def check_download(backbone: Any) -> None:
    """Check that the file of a preset can be downloaded if it is not here, before anybody waits for anything else.

    Raises:
        ConfigError: as `preset_of`.
        WeightsError: the file is not on this machine, and its server cannot be reached.
    """
    preset = PRESETS.get(preset_of(backbone) or "")
    if preset is None or preset.url is None or any(path.is_file() for path in _places(preset)):
        return
    try:
        urllib.request.urlopen(urllib.request.Request(preset.url, method="HEAD"), timeout=10).close()
    except TimeoutError:
        pass  # a slow network is none of ours
    except urllib.error.URLError as error:
        if not isinstance(error, urllib.error.HTTPError) and not isinstance(error.reason, TimeoutError):
            raise _missing(preset, error.reason) from error


def _places(preset: Preset) -> list[Path]:
    """Return where the file of a preset may be, the last one being where Keras puts it."""
    own = [Path(directory) / preset.file] if (directory := os.environ.get("VGGFT_WEIGHTS_DIR")) else []
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")  # noqa: PTH111 - pathlib raises without a home
    return [*own, Path(home) / "models" / preset.file]


def _missing(preset: Preset, reason: object) -> WeightsError:
    return WeightsError(
        f"The weights {preset.file} are not on this machine and could not be downloaded ({reason}).\n"
        "Without a network, backbone='vgg16_mini' (--backbone vgg16_mini) works at once: it ships with vggft.\n"
        f"Or fetch {preset.url}\n(MD5 {preset.md5}) on a machine with a network, and put it at "
        f"{_places(preset)[-1]},\nor into a directory that the environment variable VGGFT_WEIGHTS_DIR names, or pass "
        "its path as backbone."
    )


def find_preset(preset: Preset) -> Path:
    """Find the file of a preset: in the package, in `VGGFT_WEIGHTS_DIR`, or downloaded once by Keras and verified.

    Raises:
        WeightsError: the file is not there and cannot be downloaded; the message says where to get and put it.
    """
    if preset.url is None:
        return Path(str(files("vggft.network") / "presets" / preset.file))
    if directory := os.environ.get("VGGFT_WEIGHTS_DIR"):
        path = Path(directory) / preset.file
        if path.is_file():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if preset.md5 and digest != preset.md5:
                raise WeightsError(
                    f"{path} is not the file of {preset.url}: its MD5 is {digest}, that of the file is {preset.md5}. "
                    "To use your own file, pass its path as backbone."
                )
            return path
    import keras  # so late, as the table serves the help of the command line too

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras draws its progress bar there; standard output stays clean
            return Path(keras.utils.get_file(preset.file, preset.url, cache_subdir="models", file_hash=preset.md5))
    except Exception as error:  # Keras raises a bare Exception for a failed download
        if (place := _places(preset)[-1]).is_file():
            raise WeightsError(
                f"{place} is not the file of {preset.url},\nand this cannot be downloaded now ({error}): "
                "remove the former, and try again with a network."
            ) from error
        raise _missing(preset, error) from error
