"""scikit-learn's view of the library: `VGGClassifier`, a classifier, and `VGGFeatures`, a transformer.

Both take pictures as X: an array (N, H, W, 3), or a list, Series or column of files, arrays or PIL images. They share
code and cache with `finetune`: `cross_val_score`, `GridSearchCV` and pipelines need about one pass in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from .arguments import answers
from .augment import Augment
from .caching.cache import Cache
from .classifier import Classifier
from .config import Head, Training
from .data.dataset import Dataset, open_dataset
from .data.scan import decode
from .data.sources import loader
from .data.streams import Keep
from .errors import ConfigError, DataError, short_traceback
from .features.cuts import cut_of, shape_of
from .features.extract import Prefix
from .features.vectors import pooled_vectors
from .fields import is_word, shown, unwrapped
from .finetuning import fine_tune
from .machines.strategies import devices_of
from .network.blocks import BLOCKS, Freeze, check_architecture, pooled_blocks, sizes_of
from .network.head import normalize_images
from .network.precision import Precision, check_precision, choose, measure
from .network.weights import load_pretrained
from .pictures.arrays import is_single_image, settled
from .pictures.reading import reading_of
from .telling.progress import Narrator
from .training.request import Request

NORMALIZE = (None, "l2", "sqrt_l2")


class _OfPictures(BaseEstimator):
    """What the estimators have in common: they take pictures, not columns of numbers."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        one = tags.input_tags
        one.two_d_array, one.one_d_array, one.string = False, True, True  # two dimensions only as one column of files
        return tags


@short_traceback
class VGGClassifier(ClassifierMixin, _OfPictures):
    """`vggft.finetune` as a scikit-learn classifier.

    Args:
        backbone, freeze, head, training, augment, image_size, resize, value_range, bands, precision: as for `finetune`.
            `head` and `training` are objects, so a grid lists them:
            `{"head": [vggft.Head(units=()), vggft.Head(units=(64,))]}`.
        validation: the stratified share of the images given to `fit` that selects the best epoch, or the strength of a
            linear probe. The others are trained on.
        random_state: seed of this split, initial weights, order and dropout; an integer makes every fit the same.
        verbose: 0 prints nothing.

    Attributes:
        classifier_: the `vggft.Classifier`, with everything that it can do.
        classes_: (num_classes,) the classes, sorted, of the dtype of y; 0, 1, ... if images have several labels each.

    >>> import numpy as np, vggft
    >>> from sklearn.model_selection import cross_val_score
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> y = np.array(["dark", "light"])[np.arange(40) % 2]
    >>> model = vggft.VGGClassifier("vgg16_mini", head=vggft.Head(units=()), image_size=32)
    >>> cross_val_score(model, images, y, cv=2).mean()
    np.float64(1.0)
    """

    @answers
    def __init__(
        self,
        backbone: Any = "vgg16_imagenet",
        *,
        freeze: Freeze = "all",
        head: Head | None = None,
        training: Training | None = None,
        augment: Augment | Callable[[np.ndarray], np.ndarray] | None = None,
        image_size: int | tuple[int, int] | None = None,
        resize: Literal["squash", "crop", "pad"] = "squash",
        value_range: tuple[float, float] | None = None,
        bands: tuple[int, int, int] | None = None,
        precision: Precision = "auto",
        validation: float = 0.2,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
    ):
        self.backbone, self.freeze, self.head, self.training, self.augment = backbone, freeze, head, training, augment
        self.image_size, self.resize, self.value_range, self.bands = image_size, resize, value_range, bands
        self.precision, self.validation, self.random_state, self.verbose = precision, validation, random_state, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:  # noqa: N803
        """Train on pictures and their labels.

        Args:
            X: N pictures; or, without y, any kind of dataset that `finetune` takes, such as a folder of class folders.
            y: (N,) labels of any dtype; (N, num_classes) of 0 and 1 if images have several labels each.
            groups: (N,) which pictures no split may divide, or anything that `finetune` takes as `group`.

        Raises:
            DataError, ConfigError, WeightsError, CacheError: as `finetune` would; the first two are ValueErrors.
        """
        if y is None:
            dataset, self.classes_ = X, self._classes_of(X)
        else:
            dataset, self.classes_ = _labelled(pictures(X), y)
        given = self.get_params(deep=False)
        seed = given.pop("random_state")
        if seed is None or isinstance(seed, np.random.RandomState):
            seed = int(check_random_state(seed).randint(2**31))
        self.classifier_ = fine_tune(Request(dataset, len(self.classes_), group=groups, seed=seed, **given), Classifier)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Predict (N, num_classes) float32 probabilities of the classes, in the order of `classes_`."""
        check_is_fitted(self)
        return self.classifier_.predict(pictures(X), verbose=self.verbose)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Predict the (N,) most probable classes; with several labels per image, (N, num_classes) of 0 and 1."""
        probabilities = self.predict_proba(X)
        if self.classifier_.description.multi_label:
            return (probabilities >= 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _classes_of(self, dataset: Any) -> np.ndarray:
        if isinstance(dataset, (np.ndarray, list)):
            told = f"{type(self).__name__} requires y to be passed, but the target y is None"
            raise DataError(f"{told}: pass the labels of these pictures, or a dataset that has them.")
        found = next(iter(open_dataset(dataset).values()))
        return np.arange(found.num_classes) if found.multi_label else np.array(found.class_names)


@short_traceback
class VGGFeatures(TransformerMixin, _OfPictures):
    """Pooled frozen features of VGG16, from the cache, as a scikit-learn transformer.

    Nothing but the range of values is learned from the images: `fit` checks the arguments, and chooses the precision.

    Args:
        backbone, image_size, resize, value_range, bands, precision, strategy: as for `finetune`.
        blocks: the blocks whose outputs are pooled, side by side; one pass keeps those of all five.
        pooling: `"avg"`, `"max"` or `"flatten"`, as in `Head`.
        normalize: image by image: `"l2"` gives an image's features length 1, `"sqrt_l2"` takes their square roots
            before that; None for neither. To give every feature mean 0 and variance 1, use `StandardScaler` after it.
        verbose: 0 prints nothing.

    >>> import numpy as np, vggft
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> features = vggft.VGGFeatures("vgg16_mini", image_size=32, normalize="sqrt_l2")
    >>> model = make_pipeline(features, LogisticRegression(C=100)).fit(images, np.arange(40) % 2)
    >>> features.transform(images).shape, model.score(images, np.arange(40) % 2)
    ((40, 128), 1.0)
    """

    @answers
    def __init__(
        self,
        backbone: Any = "vgg16_imagenet",
        *,
        blocks: str | Iterable[str] = ("block5",),
        pooling: str = "avg",
        normalize: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        resize: Literal["squash", "crop", "pad"] = "squash",
        value_range: tuple[float, float] | None = None,
        bands: tuple[int, int, int] | None = None,
        precision: Precision = "auto",
        verbose: int = 0,
        strategy: Any = "auto",
    ):
        self.backbone, self.blocks, self.pooling, self.normalize = backbone, blocks, pooling, normalize
        self.precision, self.verbose, self.strategy = precision, verbose, strategy
        self.image_size, self.resize, self.value_range, self.bands = image_size, resize, value_range, bands

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32, whatever the pictures are
        return tags

    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: N803
        """Check the arguments, and decide by X which values are black and white; y is not used.

        Raises:
            ConfigError, WeightsError: an argument has an impossible value; the message says which.
        """
        pretrained = load_pretrained(self.backbone)
        size = pretrained.image_size if self.image_size is None else unwrapped(self.image_size)
        check_architecture(pretrained.column, size, pretrained.width)
        self.reading_ = reading_of(size, self.resize, self.value_range, self.bands)
        if X is not None and len(found := pictures(X)):
            self.reading_ = settled(found, self.reading_)
        check_precision(self.precision)
        cut = self._cut()
        if not is_word(self.normalize, NORMALIZE):
            told = "None, 'l2' or 'sqrt_l2' (scikit-learn's StandardScaler behind VGGFeatures standardises)"
            raise ConfigError(f"normalize must be {told}; got {shown(self.normalize)}.")
        self.image_size_, self.precision_ = size, str(self.precision)
        if self.precision == "auto":
            memory = Cache().root / "precision.json"
            self.precision_, _ = choose(measure(pretrained.column, pretrained.width, size, False, memory))
        self._n_features_out = shape_of(cut, size, pretrained.width)[0]
        self.sizes_ = sizes_of(pooled_blocks(cut), pretrained.width)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the (N, C) float32 features of N pictures; what is not in the cache is computed into it.

        Raises:
            DataError: pictures cannot be read; the message lists all of them.
        """
        check_is_fitted(self)
        cache, narrator, found = Cache(), Narrator(self.verbose), pictures(X)
        unlabelled = found, np.zeros(len(found), np.int64)
        table = loader(unlabelled, Keep(self.reading_))(unlabelled)
        pixels, scan = decode(table, self.reading_, cache, narrator)
        if scan.problems:
            told = f"{len(scan.problems)} of {len(found)} images cannot be used"
            raise DataError.listing(told, list(scan.problems.values()))
        stored_as = "float32" if self.precision == "float32" else "float16"
        prefix = Prefix(load_pretrained(self.backbone), self.image_size_, self.precision_, stored_as)
        how: dict[str, Any] = {"cache": cache, "narrator": narrator, "scope": devices_of(self.strategy).scope}
        vectors = np.asarray(pooled_vectors(prefix, self._cut(), pixels, scan.digests, **how)[:]).astype(np.float32)
        return np.asarray(normalize_images(vectors, self.normalize or "", self.sizes_))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the C features: block4_0, block4_1, ..., block5_0, ..."""
        check_is_fitted(self)
        places = self._n_features_out // sum(self.sizes_)  # of `flatten`, else 1
        blocks = zip(pooled_blocks(self._cut()), self.sizes_, strict=True)
        return np.array([f"{block}_{n}" for block, size in blocks for n in range(places * size)], dtype=object)

    def _cut(self) -> str:
        """Return the cut at which the features are taken; raise `ConfigError` if there is none."""
        try:
            head = Head(blocks=self.blocks, pooling=self.pooling)  # type: ignore[arg-type]
        except ConfigError as error:
            raise ConfigError(str(error).replace("Head.", f"{type(self).__name__}.")) from None
        return str(cut_of(BLOCKS, head))


def pictures(X: Any) -> Any:  # noqa: N803
    """Return pictures as `finetune` takes them: an array (N, H, W[, C]), or a list of files, arrays or PIL images.

    Args:
        X: one of these, or one picture, or a Series, an Index, or a DataFrame or array with one column of them.

    Raises:
        DataError: X has several columns, or is something else.
    """
    X = X.to_numpy() if hasattr(X, "to_numpy") else X  # noqa: N806, of pandas
    if is_single_image(X):
        return X[None] if isinstance(X, np.ndarray) else [X]
    if isinstance(X, np.ndarray) and (X.dtype.kind in "OUST" or X.ndim < 3):
        columns = X.shape[1] if X.ndim == 2 else 1
        if columns != 1 or X.ndim not in (1, 2) or X.dtype.kind not in "OUST":
            raise DataError(
                "X must be pictures: an array (N, H, W, 3), or a list or one column of files, arrays or PIL images; got"
                f" an array {X.shape} of {X.dtype}. Flat pixels have to be reshaped to height and width first."
            )
        return X.reshape(-1).tolist()
    if not hasattr(X, "__len__") or isinstance(X, (dict, set)) or hasattr(X, "columns"):
        raise DataError(f"X must be pictures: an array (N, H, W, 3) or a list of files; got a {type(X).__name__}.")
    return X if isinstance(X, np.ndarray) else list(X)


def _labelled(found: Any, y: Any) -> tuple[Dataset, np.ndarray]:
    """Make a dataset whose classes are numbered as the values of y, sorted; also return these."""
    y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
    check_consistent_length(found, y)
    check_classification_targets(y)
    if type_of_target(y) == "multilabel-indicator":
        whole = open_dataset((found, y.astype(np.int64)), multi_label=True)["all"]
        return whole, np.arange(y.shape[1])
    classes, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"y must have at least two classes; all labels are of one class, {classes.tolist()}.")
    return replace(open_dataset((found, codes))["all"], class_names=tuple(map(str, classes))), classes
