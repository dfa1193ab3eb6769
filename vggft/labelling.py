"""Which images to label next: from a classifier and pictures without labels to an order, a table and a page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .artifact.artifact import Artifact
from .artifact.explain import shown
from .artifact.inputs import inputs_of, read_parts
from .artifact.known import digests_of, look_at_images
from .engine import own_settings
from .errors import ConfigError, DataError, counted, short_traceback
from .extras import data_frame
from .features.vectors import embeddings
from .fields import as_path, check_count, is_word
from .fields import shown as told_as
from .files.writing import write_table, write_whole
from .insight.ranking import BY, rank
from .network.blocks import BLOCKS, pooling_layer
from .network.description import Classification
from .pictures.arrays import as_sequence
from .telling.display import jpeg_url, legible, render
from .telling.progress import Narrator

COLUMNS = ("rank", "image", "predicted", "probability", "reason")
MOST_PICTURES = 200  # on a page, which then has about 2 MB
MOST = 10**9


@short_traceback
@dataclass(frozen=True, eq=False)
class Ranking:
    """Images in the order in which their labels would teach most; `table`, `to_csv` and `save` give it on.

    Args:
        by: `"uncertainty"`, `"diversity"` or `"both"`.
        rows: (n,) int64, which of the pictures they are, the first to label first.
        names: (n,) of them: their files, or "images[3]".
        found: (n,) what the classifier says about each.
        values: (n,) float64 by which they were chosen; see `insight.ranking.rank`.
        sources: (n,) the pictures, for the page.
        images: number of pictures that were looked at.
        left_out: why others are not in it, as sentences.
        errors: row -> a sentence about a picture that cannot be read.
        artifact: the classifier.
    """

    by: str
    rows: np.ndarray
    names: Sequence[str]
    found: Sequence[Classification]
    values: np.ndarray
    sources: Sequence[Any]
    images: int
    left_out: Sequence[str]
    artifact: Artifact
    errors: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def reason(self, place: int) -> str:
        """Say why an image has its place, counted from 0."""
        one, value = self.found[place], self.values[place]
        first = [f"{label} ({p:.0%})" for label, p in zip(one.labels[:2], one.probabilities, strict=False)]
        unsure = f"undecided: {' or '.join(first)}"
        if self.by == "uncertainty":
            return unsure
        unlike = f"unlike what is known or above: {value:.2f}"
        return unlike if self.by == "diversity" else f"{unsure}; {unlike}"

    def table(self) -> list[dict[str, Any]]:
        """List the images: rank from 1 on, image, predicted (several joined by "|"), probability, reason."""
        return [
            dict(
                zip(
                    COLUMNS,
                    (n + 1, name, "|".join(one.present), round(float(one.probabilities[0]), 6), self.reason(n)),
                    strict=True,
                )
            )
            for n, (name, one) in enumerate(zip(self.names, self.found, strict=True))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"by": self.by, "images": self.images, "left_out": list(self.left_out), "ranking": self.table()}

    def to_frame(self) -> Any:
        """Return `table` as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self.table(), COLUMNS, "to_csv(path)")

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write `table` as a CSV file."""
        write_table(path := as_path(path), self.table(), COLUMNS, overwrite)
        return path

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a page with the first 200 pictures, in one HTML file that loads nothing."""
        path = as_path(path)
        if path.suffix not in (".html", ".htm"):
            raise ConfigError(f"A page is an .html file; got {told_as(path.name)}.")
        write_whole(path, self._page(MOST_PICTURES, "ranking.html"), overwrite)
        return path

    def _page(self, most: int, template: str) -> str:
        cards = [row | {"picture": url} for row, url in zip(self.table(), self._pictures(most), strict=False)]
        return render(
            template, told=str(self).split("\n")[0], left_out=self.left_out, cards=cards, more=len(self) - len(cards)
        )

    def _pictures(self, most: int) -> Iterator[str]:
        from PIL import Image

        for source in self.sources[:most]:
            try:
                yield jpeg_url(legible(Image.fromarray(shown(source, self.artifact.description.reading))), quality=80)
            except DataError:  # it has gone since
                yield ""

    def _repr_html_(self) -> str:
        return self._page(24, "ranking_cards.html")

    def __str__(self) -> str:
        how = {"uncertainty": "uncertainty", "diversity": "diversity", "both": "uncertainty and diversity"}[self.by]
        first = f"{len(self)} of {counted(self.images, 'image')} to label next, by {how}."
        lines = [f"  {row['rank']:>4}  {row['image']}: {row['reason']}" for row in self.table()[:10]]
        return "\n".join([first, *lines, *(f"Note: {each}." for each in self.left_out)])


@own_settings()
def rank_pictures(
    artifact: Artifact, pictures: Any, *, by: str, number: int | None, on_bad_image: str, verbose: int
) -> Ranking:
    """Order pictures without labels; see `Classifier.rank`."""
    if not is_word(by, BY):
        raise ConfigError(f"by must be one of {', '.join(map(repr, BY))}; got {told_as(by)}.")
    if not is_word(on_bad_image, ("raise", "skip")):
        raise ConfigError(f"on_bad_image must be 'raise' or 'skip'; got {told_as(on_bad_image)}.")
    if number is not None:
        check_count("number", number, 1, MOST)
    given, description = inputs_of(pictures), artifact.description
    sources, errors = as_sequence(given.images), dict[int, str]()
    looked = _look(artifact, sources, None if on_bad_image == "raise" else errors, verbose)
    rows, digests, vectors, probabilities = looked
    fresh = np.array([digest not in artifact.seen for digest in digests], bool)
    first = np.zeros(len(rows), bool)
    first[np.unique(np.asarray(digests), return_index=True)[1]] = True
    counts = (
        (int((~fresh).sum()), "is labelled already", "are labelled already"),
        (int((fresh & ~first).sum()), "is a copy of another one here", "are copies of others here"),
        (len(errors), "cannot be read", "cannot be read"),
    )
    left_out = [f"{counted(n, 'image')} {one if n == 1 else several}" for n, one, several in counts if n]
    kept = np.flatnonzero(fresh & first)
    order, values = rank(
        vectors[kept],
        probabilities[kept],
        _known(artifact),
        by=by,  # type: ignore[arg-type]
        number=number,
        multi_label=description.multi_label,
    )
    chosen = kept[order]
    return Ranking(
        by,
        rows[chosen],
        [given.names[row] for row in rows[chosen]],
        [description.describe(probabilities[row]) for row in chosen],
        values,
        [sources[row] for row in rows[chosen]],
        len(sources),
        left_out,
        artifact,
        errors,
    )


def _look(
    artifact: Artifact, pictures: Any, errors: dict[int, str] | None, verbose: int
) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Return the rows that can be read, their digests, embeddings and probabilities, from one pass over the others."""
    about, kept, blocks = artifact.description, artifact.kept_features(), _blocks(artifact)
    rows, digests, vectors, probabilities = [], list[str](), [], []
    with Narrator(verbose).bar("look at images", len(pictures)) as advance:
        for part, pixels in read_parts(pictures, about.reading, errors=errors):
            own = digests_of(pixels)
            found = look_at_images(artifact.network, kept, pixels, own, advance=advance, blocks=blocks)
            probabilities.append(found[0])
            vectors.append(embeddings(found[1], pooling_layer("avg", blocks), about.width))
            rows.append(part)
            digests += own
        if errors:  # so that the bar ends at its end
            advance(len(errors))
    if not digests:
        raise DataError("None of the images can be read.")
    return np.concatenate(rows), digests, np.concatenate(vectors), np.concatenate(probabilities)


def _known(artifact: Artifact) -> np.ndarray | None:
    """Return the embeddings of the images that the classifier was made with, as far as the cache has their features."""
    kept, blocks = artifact.kept_features(), _blocks(artifact)
    if kept is None or not kept.reaches(blocks):
        return None
    _, features = kept.read_all([digest for digest in artifact.seen if len(digest) == 32])
    if not len(features):
        return None
    averages = kept.outputs(features, blocks)[1]
    return embeddings(averages, pooling_layer("avg", blocks), artifact.description.width)


def _blocks(artifact: Artifact) -> tuple[str, ...]:
    """Return the blocks that the head sees, as `Classifier.embed` does."""
    return artifact.description.head.blocks or BLOCKS[-1:]
