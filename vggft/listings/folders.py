"""Find out what a folder means: which folders inside are splits, which are classes, and which only wrap others."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError, counted, some
from ..files.opening import special
from ..pictures.formats import IMAGE_SUFFIXES, format_of, is_hidden, is_unnamed_image
from .listing import SPLITS, Listing, split_of


def list_folder(data: str | os.PathLike[str]) -> Listing:
    """List a folder of class folders, with or without folders for the splits around or inside them.

    Raises:
        DataError: what the folders mean cannot be told; the message says how to name them.
    """
    given = Path(data)
    root = _inner(given)
    listing = Listing([], [], [], f"the folder {given}", check_files=False, folder=root)
    if root != given:
        listing.notes.append(f"the folder that is meant is {root}, as {given} holds images nowhere else")
    splits = _splits(root)
    classes: dict[str, set[str]] = defaultdict(set)  # split -> class names
    for split, where in splits.items() if splits else [("all", root)]:
        if split == "test" and len(splits) > 1 and (flat := _unlabelled(where, classes["train"])):
            told = f"{where} has no class folders, so what it holds has no labels and was left out"
            listing.notes.append(f"{told} ({counted(len(flat), 'image')}): predict them with classifier.predict")
            continue
        empty = _list_classes(where, split, listing, classes[split])
        if empty and split in ("all", "train"):  # which decide what classes there are
            told, it = ("folder {} holds", "it") if len(empty) == 1 else ("folders {} hold", "them")
            told = told.format(some(empty, limit=5))
            listing.remedy = f" The {told} no images: remove {it}, or put images into {it}."
    if splits:
        for folder in _folders(root):
            if not any(where.is_relative_to(folder) for where in splits.values()):
                listing.notes.append(f"the folder {folder} beside the splits was left out")
    elif inverted := _splits_inside(root):
        listing.splits = [inverted[Path(name).relative_to(root).parts[1]] for name in listing.names]
        listing.notes.append(f"every class folder holds the splits: {some(sorted(inverted))}")
    if runs := [folder for folder in _all_folders(root) if _is_of_runs(folder)]:
        listing.notes.append(f"the folder {some(runs)} with runs of vggft was left out")
    listing.class_names = tuple(sorted(classes["train"] or set().union(*classes.values())))
    if listing.ignored:
        listing.notes.append(f"files without an image's suffix or class folder were left out ({len(listing.ignored)})")
        if unnamed := [f"{path} ({kind})" for path in listing.ignored if (kind := format_of(Path(path)))]:
            listing.notes.append(f"images by their content were left out ({len(unnamed)}): {some(unnamed, limit=10)}")
    return listing


def _list_classes(root: Path, split: str, listing: Listing, names: set[str]) -> list[Path]:
    """Add the images in the class folders of a split to a listing, and its class names to a set.

    Returns:
        The class folders that hold no images.
    """
    classes, loose = _folders(root), _files(root)
    if not classes:
        count = sum(format_of(path) is not None for path in loose)
        what = f"{counted(count, 'image')} directly in it" if count else "it holds no images"
        tables = [path for folder in (root, root.parent) for path in _files(folder) if path.suffix.lower() == ".csv"]
        hint = f" If the labels are in {tables[0]}, pass that file." if count and tables else ""
        beside = _folders(root.resolve().parent) if count and split == "all" and not tables else []
        if len(beside) > 1 and all(map(_has_images, beside)):
            hint = f" Did you mean {root.resolve().parent}, which holds {len(beside)} folders of images?"
        listing.problems.append(f"{root} has no class folders ({what}). Expected {root.name}/<class>/<image>.{hint}")
    _check_classes(root, classes)
    listing.ignored += map(str, loose)
    empty = []
    for folder in classes:
        images, others = walk(folder)
        name = unicodedata.normalize("NFC", folder.name)  # as macOS writes accents otherwise than others do
        listing.ignored += map(str, others)
        listing.images += images
        listing.names += map(str, images)
        listing.labels += [name] * len(images)
        listing.splits += [split] * len(images)
        names.add(name)
        if not images:
            empty.append(folder)
    return empty


def _unlabelled(root: Path, known: set[str]) -> list[Path]:
    """Return the images of a split without class folders, or with one folder for all that is called like no class."""
    folders = _folders(root)
    if len(folders) > 1 or any(unicodedata.normalize("NFC", folder.name) in known for folder in folders):
        return []
    return walk(root)[0]


def _check_classes(root: Path, classes: Sequence[Path]) -> None:
    """Refuse folders that hold no images themselves, only folders that look like the classes."""
    if _splits_inside(root):
        return
    inside = {folder: {each.name for each in _folders(folder)} for folder in classes if not _has_images(folder)}
    many = [folder for folder, names in inside.items() if len(names) > max(2, len(classes))]
    if len(many) == 1 and len(inside) == 1 + sum(not _holds_images(folder) for folder in inside if folder != many[0]):
        raise DataError(
            f"{root} looks like one folder too high: {many[0].name} in it holds no image itself, but"
            f" {len(inside[many[0]])} folders. Did you mean {many[0]}? If {many[0].name} is a class nevertheless, list"
            " the images with their labels in a CSV file."
        )
    for folder, names in inside.items():
        others = {other: {each.name for each in _folders(other)} for other in classes if other != folder}
        shared = len(names) > 1 and bool(others) and names <= set().union(*others.values())
        if shared or (len(names) > 1 and others and split_of(folder.name)):
            alike = [other.name for other, its in others.items() if names & its]
            also = f", as {some(alike, limit=5)} also does" if alike else ""
            raise DataError(
                f"{folder} holds no images itself, but the folders {some(sorted(names), limit=5)}{also}: it looks like"
                " a split or a part of the data rather than a class. Pass the folder whose folders are the classes; or"
                " call the folders of splits train, validation and test, or name them, as in"
                f" {{'train': {str(folder)!r}, 'test': ...}}. If the folders in {root} are the classes nevertheless,"
                " pass (files, labels)."
            )


def _splits(root: Path) -> dict[str, Path]:
    """Return split -> the folder of its class folders; empty if the folders inside are no splits."""
    folders = _folders(root)
    named = {folder: split for folder in folders if (split := split_of(folder.name))}
    found, every = set(named.values()), len(named) == len(folders)
    sure = any(_is_split(folder) or folder.name.lower() in _PLAIN for folder in named)
    several = len(found) > 1 and "train" in found
    if not (several and (every or sure)) and not (found and every and sure):
        return {}  # but classes, such as steam_train and bullet_train
    for split in found:
        same = [folder for folder, its in named.items() if its == split]
        if len(same) > 1:
            raise DataError(
                f"{root} has several folders that would be the {split} split: {some(path.name for path in same)}. Keep"
                f" one of them, or name them in a dict, such as {{'train': {str(same[0])!r}, 'test': ...}}."
            )
    return {split: _inner(folder, split) for split in SPLITS for folder, its in named.items() if its == split}


_PLAIN = frozenset(("train", "training", "validation", "val", "valid", "test", "testing"))


def _is_split(folder: Path) -> bool:
    """Whether a folder holds no images itself, but folders that hold some."""
    return not _has_images(folder) and any(_holds_images(each) for each in _folders(folder))


def _splits_inside(root: Path) -> dict[str, str]:
    """Return folder name -> split if every class folder holds only folders of splits, one of them for training."""
    classes = [folder for folder in _folders(root) if _holds_images(folder)]
    if len(classes) < 2 or any(_has_images(folder) for folder in classes):
        return {}
    names = {each.name for folder in classes for each in _folders(folder) if _holds_images(each)}
    found = {name: split for name in names if (split := split_of(name))}
    if len(found) < len(names):
        return {}
    return found if "train" in found.values() and len(set(found.values())) > 1 else {}


def _inner(root: Path, split: str | None = None) -> Path:
    """Follow folders that hold images in one folder only, as unpacked archives do, to where there are several.

    Folders of splits are not followed, but for those of the split that is given.
    """
    here = root
    while not _has_images(here):
        inside = [folder for folder in _folders(here) if _holds_images(folder)]
        if len(inside) > 1 or (inside and split_of(inside[0].name) not in (None, split)):
            return here
        if not inside or _has_images(inside[0]) or len(here.parts) > len(root.parts) + 9:
            break
        here = inside[0]
    return root


def _folders(root: Path) -> list[Path]:
    return [folder for folder in _all_folders(root) if not _is_of_runs(folder)]


def _all_folders(root: Path) -> list[Path]:
    with os.scandir(root) as found:  # which needs no look at each of very many files
        return sorted(Path(root, each.name) for each in found if not is_hidden(each.name) and each.is_dir())


def _is_of_runs(folder: Path) -> bool:
    """Whether a folder is a run directory of vggft, whose plots are no images of the data, or holds only such."""
    if _is_run(folder):
        return True
    try:
        with os.scandir(folder) as found:
            inside = (each for each in found if not is_hidden(each.name))
            first = next(inside, None)
            return first is not None and all(each.is_dir() and _is_run(Path(each.path)) for each in (first, *inside))
    except OSError:  # which listing it reports better
        return False


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "environment.json"))


def _files(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if (path.is_file() or special(path)) and not is_hidden(path.name)]


def _has_images(root: Path) -> bool:
    """Whether there are images directly in a folder."""
    with os.scandir(root) as found:
        return any(_is_image(each.name) and each.is_file() for each in found if not is_hidden(each.name))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122, of very many files


def _holds_images(root: Path) -> bool:
    return any(_is_image(path.name) for path in walk_files(root))


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the visible files below a folder, sorted: those with the suffix of an image, and the others.

    If no file has such a suffix, files without any are taken by their content, as those of DICOM often are. Links to
    folders are followed, unless they lead back to a folder that they are in.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in walk_files(folder):
        (images if _is_image(path.name) else others).append(path)
    if not images and (images := [path for path in others if is_unnamed_image(path)]):
        found = set(images)
        others = [path for path in others if path not in found]
    return images, others


def walk_files(folder: Path, around: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the visible files below a folder, sorted; `around` are the real paths of the folders that it is in."""
    here = os.path.realpath(folder)
    if here in around:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted((each for each in found if not is_hidden(each.name)), key=lambda each: each.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    folders = []
    for each in entries:
        if each.is_dir():
            if not _is_run(Path(folder, each.name)):
                folders.append(each.name)
        else:
            yield Path(folder, each.name)
    for name in folders:
        yield from walk_files(Path(folder, name), around | {here})
