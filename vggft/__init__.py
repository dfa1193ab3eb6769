"""Fine-tune VGG16 on your own images: frozen blocks are computed once, and the result is judged honestly.

    import vggft
    classifier = vggft.finetune("flowers/", num_classes=10)

Names are loaded on first use, so `import vggft` is quick; TensorFlow is imported by the first function that needs it.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# TensorFlow reads these when it is first imported. Without oneDNN, which it leaves off on processors that lack AVX-512,
# convolutions take about twice as long; below level 2 it logs messages that no user can act on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from . import plots as plots
    from .api import estimate as estimate
    from .api import finetune as finetune
    from .artifact.explain import Explanation as Explanation
    from .auditing import audit as audit
    from .augment import Augment as Augment
    from .classifier import Classifier as Classifier
    from .classifier import load as load
    from .config import Head as Head
    from .config import Phase as Phase
    from .config import Training as Training
    from .costs import Estimate as Estimate
    from .crossvalidation import cross_validate as cross_validate
    from .data.findings import Audit as Audit
    from .deploy.export import Export as Export
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
    from .errors import WriteError as WriteError
    from .estimators import VGGClassifier as VGGClassifier
    from .estimators import VGGFeatures as VGGFeatures
    from .evaluation.calibration import Calibration as Calibration
    from .evaluation.compare import Comparison as Comparison
    from .evaluation.compare import compare as compare
    from .evaluation.evaluation import Evaluation as Evaluation
    from .evaluation.folds import CrossValidation as CrossValidation
    from .evaluation.operating import OperatingPoint as OperatingPoint
    from .forecast import Forecast as Forecast
    from .insight.growth import Growth as Growth
    from .labelling import Ranking as Ranking
    from .learning_curves import learning_curve as learning_curve
    from .learning_rates import LearningRates as LearningRates
    from .learning_rates import find_learning_rate as find_learning_rate
    from .listings.tables import Table as Table
    from .network.description import Classification as Classification
    from .network.vgg import vgg as vgg
    from .network.vgg import vgg16 as vgg16
    from .network.vgg import vgg19 as vgg19
    from .overview import RunTable as RunTable
    from .overview import read_runs as read_runs
    from .trust.conformal import Coverage as Coverage
    from .trust.conformal import PredictionSets as PredictionSets
    from .tuning.result import SearchResult as SearchResult
    from .tuning.search import search as search
    from .tuning.space import SearchSpace as SearchSpace
    from .tuning.trial import Trial as Trial
    from .weightfiles.presets import PRESETS as PRESETS

_HOMES = {
    "api": ("estimate", "finetune"),
    "artifact.explain": ("Explanation",),
    "classifier": ("Classifier", "load"),
    "auditing": ("audit",),
    "augment": ("Augment",),
    "config": ("Head", "Phase", "Training"),
    "costs": ("Estimate",),
    "forecast": ("Forecast",),
    "crossvalidation": ("cross_validate",),
    "data.findings": ("Audit",),
    "deploy.export": ("Export",),
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
        "WriteError",
    ),
    "estimators": ("VGGClassifier", "VGGFeatures"),
    "evaluation.calibration": ("Calibration",),
    "evaluation.compare": ("Comparison", "compare"),
    "evaluation.evaluation": ("Evaluation",),
    "evaluation.folds": ("CrossValidation",),
    "evaluation.operating": ("OperatingPoint",),
    "insight.growth": ("Growth",),
    "labelling": ("Ranking",),
    "learning_curves": ("learning_curve",),
    "trust.conformal": ("Coverage", "PredictionSets"),
    "learning_rates": ("LearningRates", "find_learning_rate"),
    "listings.tables": ("Table",),
    "network.description": ("Classification",),
    "network.vgg": ("vgg", "vgg16", "vgg19"),
    "overview": ("RunTable", "read_runs"),
    "tuning.result": ("SearchResult",),
    "tuning.search": ("search",),
    "tuning.space": ("SearchSpace",),
    "tuning.trial": ("Trial",),
    "weightfiles.presets": ("PRESETS",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_WITHOUT_KERAS = ("auditing", "augment", "config", "data.findings", "errors", "overview")

__all__ = ["__version__", "plots", *sorted(_HOME_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "plots":
        return import_module(".plots", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vggft' has no attribute {name!r}")
    if _HOME_OF[name] not in _WITHOUT_KERAS:
        import_module(".engine", __name__).import_tensorflow()
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
