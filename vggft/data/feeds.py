"""Read what gives images and labels bit by bit: `tf.data`, `PyDataset`, Keras's iterators, PyTorch's, generators."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, some
from ..listings.listing import Listing, as_weights
from ..pictures.files import read_image
from .streams import Keep, read_stream

Feed = Callable[..., Listing]

_IMAGE_KEYS, _LABEL_KEYS = ("image", "images", "img", "pixels", "x"), ("label", "labels", "class", "target", "y")
_PAIR = "(image, label), or a dict of image and label"
CYCLE, TIMES, ALIKE = 8, 3, 100  # a generator is taken to be endless if its first batches come again so often


def feed_of(data: Any) -> Feed | None:
    """Return the function that reads a feed, or None if this is something else."""
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tensorflow is not None and isinstance(data, tensorflow.data.Dataset):
        return _from_tf_data
    if keras is not None and isinstance(data, keras.utils.PyDataset):
        return _from_py_dataset
    if is_endless_kind(data) or _is_loader(data):
        return _from_iterable
    return None


def elements_of(data: Any) -> Iterator[Any] | None:
    """Return the elements of a feed as they come, for those that need no labels; None if this is something else.

    Raises:
        DataError: it has no end.
    """
    feed = feed_of(data)
    if feed is _from_tf_data:
        if int(data.cardinality()) == -1:
            raise DataError("The tf.data.Dataset is infinite: leave out .repeat(), or add .take(n).")
        return iter(data.as_numpy_iterator())
    if feed is _from_py_dataset:
        return (data[i] for i in range(_batches_of(data)))
    return None if feed is None else _ending(_iterated(data))


def is_endless_kind(data: Any) -> bool:
    """Whether this is a generator or another iterator, which may not end and can be read only once."""
    return isinstance(data, Iterator) and not hasattr(data, "read")  # an open file has lines


def _is_loader(data: Any) -> bool:
    """Whether this is a `DataLoader` or `Dataset` as PyTorch has them."""
    known = isinstance(data, (str, bytes, Mapping, tuple, list, set, frozenset, range, np.ndarray))
    names = {f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in type(data).__mro__}
    return not known and bool({"torch.DataLoader", "torch.Dataset"} & names)


def _from_tf_data(data: Any, keep: Keep) -> Listing:
    spec = data.element_spec
    pair = _pair(spec) if isinstance(spec, Mapping) else spec
    if not isinstance(pair, tuple) or len(pair) not in (2, 3) or not hasattr(pair[0], "shape"):
        raise DataError(f"The elements of a tf.data.Dataset must be {_PAIR}; got {spec}.")
    if (count := int(data.cardinality())) == -1:
        raise DataError("The tf.data.Dataset is infinite: leave out .repeat(), or add .take(n).")
    rank = pair[0].shape.rank
    if rank not in (3, 4):
        raise DataError(f"The images of a tf.data.Dataset must be (H, W, C) or (B, H, W, C); got {pair[0]}.")
    batches: Iterator[Any] = map(_pair, data.as_numpy_iterator())
    if rank == 3 and not _is_batch(pair[0].shape, pair[1]):
        batches = (tuple(np.asarray(part)[None] for part in parts) for parts in batches)
    listing = _from_batches(batches, keep, count if count >= 0 else None)
    names, steps = _names_before(data)
    if names and _fits(listing.labels, len(names)):
        listing.class_names, listing.positions = names, True
        if steps:
            listing.notes.append("the class names are those that the tf.data.Dataset had before .map and the like")
            listing.remedy = " The class names are those from before .map: pass class_names if it changes the labels."
    elif names:
        told = f"{some(names, limit=5)} of the tf.data.Dataset were left out, as the labels are others"
        listing.notes.append(f"the class names {told}")
    return listing


def _is_batch(image: Any, label: Any) -> bool:
    """Whether elements of three dimensions are batches of grey images, and not single ones with bands."""
    bands, known = image[-1] in (1, 3, 4), hasattr(label, "shape") and bool(label.shape.rank)
    return known and not bands and image[0] == label.shape[0]


def _names_before(data: Any) -> tuple[tuple[str, ...], int]:
    """Return the class names of a `tf.data.Dataset`, or of one that it was made from; and from how many steps before.

    `keras.utils.image_dataset_from_directory` sets them on the dataset that it returns; `.map`, `.prefetch`, `.batch`
    and `.cache` make a new one, which knows that it was made from.
    """
    for steps in range(100):
        if names := getattr(data, "class_names", None):
            return tuple(map(str, names)), steps
        try:
            (data,) = data._inputs()
        except (AttributeError, NotImplementedError, ValueError, TypeError):  # no such method, or several datasets
            break
    return (), 0


def _fits(labels: np.ndarray, count: int) -> bool:
    """Whether labels can be positions among so many classes, or columns of them."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.shape[1] == count
    return labels.dtype.kind in "biuf" and bool(((labels >= 0) & (labels < count)).all())


def _from_py_dataset(data: Any, keep: Keep) -> Listing:
    count = _batches_of(data)
    return _named(_from_batches(map(_pair, (data[i] for i in range(count))), keep, count), data)


def _batches_of(data: Any) -> int:
    """Return the number of batches of a `PyDataset`."""
    try:
        count = data.num_batches
    except NotImplementedError:
        count = None
    if count is None or count == float("inf"):
        raise DataError("The PyDataset is infinite: define __len__, the number of its batches.")
    return int(count)


def _iterated(data: Any) -> Iterator[Any]:
    return iter(data) if hasattr(data, "__iter__") else (data[i] for i in range(len(data)))


def _from_iterable(data: Any, keep: Keep) -> Listing:
    count = len(data) if hasattr(data, "__len__") else None
    batches = (_batched(_pair(each)) for each in _ending(_iterated(data)))
    return _named(_from_batches(batches, keep, count), data)


def _named(listing: Listing, data: Any) -> Listing:
    """Add the class names that Keras's iterators and PyTorch's folders of images have."""
    indices = getattr(data, "class_indices", None) or getattr(data, "class_to_idx", None)
    if not isinstance(indices, Mapping) and hasattr(data, "dataset"):
        indices = getattr(data.dataset, "class_to_idx", None)
    names = tuple(map(str, sorted(indices, key=indices.__getitem__))) if isinstance(indices, Mapping) else None
    names = names or tuple(map(str, getattr(data, "class_names", None) or ()))
    if names and _fits(listing.labels, len(names)):
        listing.class_names, listing.positions = names, True
    return listing


def _from_batches(batches: Iterable[Any], keep: Keep, count: int | None) -> Listing:
    """Read all batches once; the rows are in the order of their content, as the dataset may shuffle them."""
    weights: list[np.ndarray | None] = []
    images, labels, taken = read_stream(_weightless(batches, weights), keep, count)
    names = [f"images[{i}]" for i in range(len(images))]
    listing = Listing(images, labels, names, "the dataset", by_content=True)
    if any(each is not None for each in weights):
        if any(each is None for each in weights):
            raise DataError("Some batches have sample weights, and others have none.")
        given = as_weights(np.concatenate([each for each in weights if each is not None]), len(images), "the dataset")
        listing.weights = given[[image.row for image in images]]
    listing.notes.append(taken)
    listing.notes.append("images[i] is the i-th image in the order of their content, as the dataset may shuffle them")
    return listing


def _weightless(batches: Iterable[Any], weights: list[np.ndarray | None]) -> Iterator[Any]:
    """Yield batches without their sample weights, which are added to a list."""
    for batch in batches:
        several = isinstance(batch, (tuple, list)) and len(batch) == 3
        weights.append(np.ravel(np.asarray(batch[2])) if several and batch[2] is not None else None)
        yield tuple(batch[:2]) if several else batch


def _pair(element: Any) -> Any:
    """Return (image, label) of an element that is a dict, as those of TensorFlow Datasets are."""
    if not isinstance(element, Mapping):
        return element
    image, label = (next((key for key in keys if key in element), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS))
    if image is None or label is None:
        raise DataError(f"Elements must be {_PAIR}; got a dict of {some(map(repr, element), limit=8)}.")
    return element[image], element[label]


def _batched(element: Any) -> Any:
    """Return an element as a batch: (B, H, W[, C]) and (B, ...); one image becomes a batch of one."""
    if not isinstance(element, (tuple, list)) or len(element) not in (2, 3):
        raise DataError(f"The elements must be {_PAIR}, or batches of them; got {_described(element)}.")
    x, y = pixels_of(element[0]), np.asarray(element[1])
    one_hot = x.ndim == 3 and y.ndim == 1 and x.shape[2] in (1, 3, 4) and len(x) != len(y)
    single = x.ndim == 2 or (x.ndim == 3 and (not y.ndim or one_hot))
    parts = (x, y, *element[2:])
    return tuple(np.asarray(part)[None] for part in parts) if single else parts


def pixels_of(image: Any) -> np.ndarray:
    """Return one image or several as an array; tensors of PyTorch have channels first, and are turned round."""
    if hasattr(image, "getbands"):
        return read_image(image).pixels
    if type(image).__module__.partition(".")[0] == "torch":
        array = image.detach().cpu().numpy()
        first = array.ndim >= 3 and array.shape[-3] in (1, 3, 4) and array.shape[-1] not in (1, 3, 4)
        return np.moveaxis(array, -3, -1) if first else array
    return np.asarray(image)


def _ending(elements: Iterable[Any]) -> Iterator[Any]:
    """Yield what an iterator gives; raise `DataError` if it begins again and again."""
    first: list[bytes] = []
    last: deque[bytes] = deque(maxlen=CYCLE)
    times = 1
    for number, element in enumerate(elements):
        try:
            last.append(b"" if element is None or isinstance(element, (int, float)) else _content(element))
        except Exception:  # of an object that is not ours; it is taken to be new
            last.append(str(number).encode())
        if number < CYCLE:
            first.append(last[-1])
        elif number % CYCLE == CYCLE - 1 and list(last) == first:
            times += 1
            if times == (TIMES if len({*first}) > 1 else ALIKE):  # all may be alike for a while, such as black ones
                raise DataError("The generator gives the same images again and again: let it end after all of them.")
        yield element


def _content(element: Any) -> bytes:
    """Return what stands for all that an element holds."""
    if isinstance(element, Mapping):
        element = list(element.items())
    if isinstance(element, (tuple, list)):
        return b"(" + b",".join(map(_content, element)) + b")"
    if isinstance(element, (str, bytes, os.PathLike)):
        return repr(element).encode()
    array = np.asarray(element)
    if array.dtype.hasobject:
        raise TypeError(f"a {type(element).__name__} is no image")
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()


def labels_of_pairs(pairs: Sequence[tuple[Any, Any]]) -> Any:
    """Return the labels of (image, label) pairs."""
    labels = [label for _, label in pairs]
    return labels if any(isinstance(label, (str, bytes, list, tuple)) for label in labels) else np.asarray(labels)


def names_of_info(info: Any) -> tuple[str, ...] | None:
    """Return the class names in the `DatasetInfo` that `tfds.load(..., with_info=True)` returns; None if it is none."""
    features = getattr(info, "features", None)
    if features is None or not hasattr(info, "splits") or hasattr(info, "column_names"):
        return None
    for key in _LABEL_KEYS:
        if key in features and (names := getattr(features[key], "names", None)):
            return tuple(map(str, names))
    return ()


def _described(element: Any) -> str:
    if isinstance(element, (tuple, list)):
        return f"a {type(element).__name__} of {len(element)}"
    return f"a {type(element).__name__}"
