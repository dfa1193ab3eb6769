"""`learning_curve`: how many more images a better classifier would take, from probes on frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .arguments import answers
from .engine import own_settings
from .insight.growing import growth_in
from .insight.growth import Growth
from .network.precision import Precision
from .pipeline import open_run
from .run import RunDirectory
from .splits.groups import Group
from .training.request import Request

MOST_REPEATS, REPEATED = 4, 2000  # repeats of few images; images from which on there are none


@answers
@own_settings()
def learning_curve(
    dataset: Any,
    num_classes: int | None = None,
    *,
    validation: Any = 0.2,
    test: Any = None,
    group: Group | None = None,
    backbone: Any = "vgg16_imagenet",
    image_size: int | tuple[int, int] | None = None,
    resize: Literal["squash", "crop", "pad"] = "squash",
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, int, int] | None = None,
    precision: Precision = "auto",
    on_bad_image: Literal["raise", "skip"] = "raise",
    class_names: Sequence[str] | Mapping[str, int] | None = None,
    seed: int = 0,
    verbose: int = 1,
) -> Growth:
    """Estimate what more images would bring: would another 200 pictures help, or something else?

    Linear probes on frozen features learn from growing shares of the images, each judged by images that it has not
    seen, and a power law through their scores goes on to more images than there are. Once the features are in the
    cache, it takes seconds. Nothing is trained for good.

    Args:
        dataset: as for `finetune`. Train and validation images are put into folds together; images of a test split are
            not used.
        num_classes: as for `finetune`.
        validation: as for `finetune`, so that a dataset is read in the same way; where it is a fraction it is of no
            importance here.
        test: a fraction or a dataset that is left out, as for `finetune` with the same seed.
        group: as for `finetune`; images of one group never judge probes that learned from others of it.
        backbone, image_size, resize, value_range, bands, precision, on_bad_image, class_names: as for `finetune`.
        seed: seed of the folds and draws.
        verbose: 0 prints nothing.

    Returns:
        A `Growth`: `str` is a sentence, `predict(n)` the score with n images and its 90 % interval, `plot()` a figure.
        If there are too few images for a curve, `str` says so.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: as `finetune` would.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> data = images, np.arange(100) % 2
    >>> print(vggft.learning_curve(data, 2, backbone="vgg16_mini", image_size=32, verbose=0))
    More images of the same kind would change little: accuracy would rise by less than 0.005.
    """
    request = Request(
        dataset,
        num_classes,
        validation=validation,
        test=test,
        group=group,
        backbone=backbone,
        image_size=image_size,
        resize=resize,
        value_range=value_range,
        bands=bands,
        precision=precision,
        on_bad_image=on_bad_image,
        class_names=class_names,
        seed=seed,
        verbose=verbose,
    )
    run = open_run(request, [request.setting()], RunDirectory(None))
    setting, experiment = run.resolve(request.setting()), run.experiment
    (cut,) = experiment.cuts([setting])
    bank = experiment.bank(run.passes([setting]), run.narrator)
    images = sum(len(experiment.pool.rows[split]) for split in ("train", "validation"))
    repeats = max(1, min(MOST_REPEATS, REPEATED // max(1, images)))
    return growth_in(bank, cut, experiment.pool, seed=experiment.seed, repeats=repeats)
