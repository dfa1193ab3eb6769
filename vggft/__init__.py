"""Fine-tune VGG16 on your own images: frozen blocks are computed once, and the result is judged honestly.

    import vggft
    classifier = vggft.finetune("flowers/", num_classes=10)

Names are loaded on first use, so that `import vggft` is quick; TensorFlow comes with the first function that needs it.
"""

import os
import sys
import types
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# TensorFlow reads these when it is first imported. Without oneDNN, which it leaves off on processors that lack AVX-512,
# convolutions take about twice as long; below level 2 it logs what no user can act on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from .api import estimate as estimate
    from .api import finetune as finetune
    from .api import vgg as vgg
    from .api import vgg16 as vgg16
    from .audit import Audit as Audit
    from .audit import audit as audit
    from .calibration import Calibration as Calibration
    from .classifier import Classifier as Classifier
    from .classifier import load as load
    from .compare import Comparison as Comparison
    from .compare import compare as compare
    from .config import Augment as Augment
    from .config import Head as Head
    from .config import SearchSpace as SearchSpace
    from .config import Training as Training
    from .description import Classification as Classification
    from .errors import CacheError as CacheError
    from .errors import ClassifierFileError as ClassifierFileError
    from .errors import ConfigError as ConfigError
    from .errors import DataError as DataError
    from .errors import ExportError as ExportError
    from .errors import FreezeError as FreezeError
    from .errors import RunError as RunError
    from .errors import SearchError as SearchError
    from .errors import VggftError as VggftError
    from .errors import WeightsError as WeightsError
    from .estimate import Estimate as Estimate
    from .evaluation import Evaluation as Evaluation
    from .explain import Explanation as Explanation
    from .export import Export as Export
    from .results import SearchResult as SearchResult
    from .search import search as search
    from .trials import Trial as Trial
    from .weights import PRESETS as PRESETS

_HOMES = {
    "api": ("estimate", "finetune", "vgg", "vgg16"),
    "audit": ("Audit", "audit"),
    "calibration": ("Calibration",),
    "classifier": ("Classifier", "load"),
    "compare": ("Comparison", "compare"),
    "config": ("Augment", "Head", "SearchSpace", "Training"),
    "description": ("Classification",),
    "errors": (
        "CacheError",
        "ClassifierFileError",
        "ConfigError",
        "DataError",
        "ExportError",
        "FreezeError",
        "RunError",
        "SearchError",
        "VggftError",
        "WeightsError",
    ),
    "estimate": ("Estimate",),
    "evaluation": ("Evaluation",),
    "explain": ("Explanation",),
    "export": ("Export",),
    "results": ("SearchResult",),
    "search": ("search",),
    "trials": ("Trial",),
    "weights": ("PRESETS",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604


class _Package(types.ModuleType):
    """Python binds a submodule to its package when it is imported; `vggft.audit` has to stay the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vggft' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
