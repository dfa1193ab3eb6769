"""`audit`: find out what is in a dataset and what is wrong with it; with `labels`, also by what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .arguments import answers
from .caching.cache import Cache
from .caching.rows import Rows
from .data import audit as plain
from .data.dataset import Dataset
from .data.findings import Audit, Finding
from .data.scan import Scan
from .pictures.reading import ImageSize
from .telling.progress import Narrator


@answers
def audit(
    dataset: Any,
    num_classes: int | None = None,
    *,
    image_size: ImageSize | None = None,
    resize: Literal["squash", "crop", "pad"] = "squash",
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, int, int] | None = None,
    check_images: bool = False,
    near_duplicates: bool = False,
    labels: bool = False,
    backbone: Any = "vgg16_imagenet",
    verbose: int = 0,
) -> Audit:
    """Check every image and every label once, and summarise what is in the data and what is wrong with it.

    Problems that would make `finetune` raise an error are collected in `errors` instead. What is found may be wrong;
    nothing of the data is changed.

    Args:
        dataset: any kind of dataset that `finetune` takes.
        num_classes: the expected number of classes; None accepts any.
        image_size: side in px, or (height, width), to resize to before images are compared; copies have equal resized
            pixels. None is 224, and with `labels` the backbone's own.
        resize, value_range, bands: as for `finetune`.
        check_images: also look for images that are blurred, dark, overexposed, without contrast, or of an odd shape or
            size; this reads every image a second time.
        near_duplicates: also look for pictures that are saved again, resized, slightly cropped, brightened or mirrored,
            within splits and across them. It needs no network; decoded images are kept in the cache.
        labels: also look for labels that may be wrong, where images have one label each: a probe on frozen features
            predicts every image from others. This needs a pass of all images through the backbone, which the cache
            keeps for `finetune`.
        backbone: for `labels`: as for `finetune`.
        verbose: 0 is silent, 1 shows a progress bar.

    Returns:
        An `Audit`; `print` it for a summary. `to_csv` writes everything, `to_html` a page with pictures.

    Raises:
        DataError: `dataset` is not a dataset of any kind.
        ConfigError: `image_size` is below 32, or another argument has an impossible value.
        WeightsError: the weights of the backbone cannot be had.
    """
    look, size = None, 224 if image_size is None else image_size
    if labels:
        look, size = _by(backbone, image_size, Narrator(verbose))
    how: dict[str, Any] = {"image_size": size, "resize": resize, "value_range": value_range, "bands": bands}
    how |= {"check_images": check_images, "near_duplicates": near_duplicates, "verbose": verbose}
    return plain.audit(dataset, num_classes, **how, look=look)


def _by(backbone: Any, image_size: ImageSize | None, narrator: Narrator) -> tuple[plain.Look, ImageSize]:
    """Return what finds doubtful labels by a backbone, and the size at which it sees images."""
    from .engine import import_tensorflow

    import_tensorflow()
    from .features.extract import Prefix
    from .features.vectors import embeddings, pooled_vectors
    from .insight.doubts import CUT, sentence
    from .insight.labels import label_issues
    from .network.blocks import check_architecture
    from .network.precision import choose, measure
    from .network.weights import load_pretrained

    pretrained, cache = load_pretrained(backbone), Cache()
    size = pretrained.image_size if image_size is None else image_size
    check_architecture(pretrained.column, size, pretrained.width)

    def look(whole: Dataset, pixels: np.ndarray | Rows, found: Scan, short: Sequence[str]) -> list[Finding]:
        if whole.multi_label:
            narrator.say("Note: labels are only looked at where every image has one label.")
            return []
        memory = cache.root / "precision.json"
        precision, _ = choose(measure(pretrained.column, pretrained.width, size, False, memory))
        prefix = Prefix(pretrained, size, precision, "float16")
        vectors = pooled_vectors(prefix, CUT, pixels, found.digests, cache=cache, narrator=narrator)
        seen = embeddings(vectors, CUT, pretrained.width)
        rows = np.flatnonzero(found.facts["digest"] != "")
        copies = np.unique(found.facts["digest"][rows], return_inverse=True)[1]
        issues = label_issues(seen[rows], whole.labels[rows], whole.num_classes, copies)
        names = whole.class_names
        return [
            Finding("doubtful label", (short[rows[n]],), (sentence(names, whole.labels[rows[n]], issues, n),))
            for n in issues.ranked()
        ]

    return look, size
