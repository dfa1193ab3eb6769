"""Plots in the manner of scikit-learn's Display classes: made from results, drawn by `plot` on your axes or new ones.

    vggft.plots.ConfusionMatrixDisplay(classifier).plot()
    figure, axes = plt.subplots(1, 2)
    vggft.plots.RocCurveDisplay(classifier).plot(axes[0])
    vggft.plots.ReliabilityDisplay(classifier).save("reliability.svg")

The report draws the same ones.
"""

from .drawing.curves import GrowthDisplay, HistoryDisplay, LearningRateDisplay, TrialsDisplay
from .drawing.display import Display
from .drawing.maps import MapDisplay
from .drawing.results import ConfusionMatrixDisplay, PrecisionRecallDisplay, ReliabilityDisplay, RocCurveDisplay
from .drawing.samples import SamplesDisplay

__all__ = [
    "ConfusionMatrixDisplay",
    "Display",
    "GrowthDisplay",
    "HistoryDisplay",
    "LearningRateDisplay",
    "MapDisplay",
    "PrecisionRecallDisplay",
    "ReliabilityDisplay",
    "RocCurveDisplay",
    "SamplesDisplay",
    "TrialsDisplay",
]
