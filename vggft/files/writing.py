"""Writing and deleting: files appear whole or not at all, nothing is replaced unless asked, only ours are deleted.

Whatever vggft writes goes through `whole_file` or `whole_folder`. What is not finished has a name that nobody can
guess, beside its place, and is created by this process or not at all: no link and no other thread gets in between.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ConfigError, VggftError, WriteError
from ..foreign import guarded, guarded_row

UNFINISHED = re.compile(r"\.vggft-[0-9a-f]{16}(-earlier)?(\.[^/]*)?")  # names of what is being written
LONGEST_SUFFIX = 100  # characters, so that the name of an unfinished file is not too long
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
FULL_IN_WORDS = re.compile(r"No space left on device|[Dd]isk quota|errno = (28|122)\b")  # of HDF5 and TensorFlow
LEAST_FREE = 2**16  # bytes: of a disk that has fewer free, an error of a library that does not say why tells why


def check_free(path: Path, overwrite: bool = False) -> None:
    """Raise `ConfigError` if a file may not be written: something is there, and is to stay.

    Args:
        overwrite: whether a file, or a link, may be replaced; folders and devices never are.
    """
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError(f"{path} cannot be written: the folder that it should be in is a file.") from None
    if stat.S_ISDIR(found):
        raise ConfigError(f"{path} is a folder; give the name of a file.")
    if not (stat.S_ISREG(found) or stat.S_ISLNK(found)):
        raise ConfigError(f"{path} is a device, a pipe or a socket, which is not replaced; give the name of a file.")
    if not overwrite:
        raise ConfigError(f"{path} exists already; overwrite=True (--force) replaces it.")


@contextmanager
def explained(path: Path | None, only_full: bool = False) -> Iterator[None]:
    """Turn what goes wrong while something is written into a `WriteError` that names it and says why.

    Libraries raise anything where a disk is full, also errors that do not say so.

    Args:
        path: what is written; None for nothing.
        only_full: whether only to explain that the disk is full, as more is done than to write.
    """
    try:
        yield
    except VggftError:
        raise
    except Exception as error:
        if path is None:
            raise
        if (place := full_disk(error, path)) is not None:
            why = f"the disk of {place} is full: make room there and do the same again"
        elif only_full:
            raise
        elif isinstance(error, FileNotFoundError):
            why = "its folder is no longer there"
        elif isinstance(error, OSError):
            why = str(error.strerror or error).rstrip(".")
        else:
            raise
        raise WriteError(f"{path} cannot be written: {why}.") from error


def full_disk(error: Exception, path: Path) -> Path | None:
    """Return the folder whose disk is full, if that is why something could not be written; else None."""
    number = getattr(error, "errno", None)
    if number is not None and number not in FULL:
        return None
    says_so = number in FULL or FULL_IN_WORDS.search(str(error))
    named = getattr(error, "filename", None)
    places = [Path(os.fsdecode(named)).parent] if isinstance(named, (str, bytes)) else []
    there = next((each for each in path.absolute().parents if each.is_dir()), path.parent)
    places.append(there)
    with suppress(OSError):  # there is no folder for temporary files either
        for place in (*places, Path(tempfile.gettempdir())):
            if shutil.disk_usage(place).free < LEAST_FREE:
                return place
    return places[0] if says_so else None


@contextmanager
def whole_file(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and rename it at the end, so that files appear whole or not at all.

    A file that is replaced hands on its permissions; a link is replaced itself, not what it points to.

    Raises:
        ConfigError: something is there already, and `overwrite` is not set; also if it has come during the writing.
        WriteError: it cannot be written, as the disk is full for example; what was there is as it was.
    """
    with ExitStack() as after, explained(path):  # what is not finished is still there when an error is looked at
        check_free(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _made_beside(path, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)))
        after.callback(_remove, aside)
        yield aside
        with aside.open("r+b") as file:  # Windows can flush only files that are open for writing
            os.fsync(file.fileno())
        with suppress(OSError):
            if stat.S_ISREG(mode := path.lstat().st_mode):
                aside.chmod(mode & 0o777)
        _put(aside, path, overwrite)


def _remove(aside: Path) -> None:
    with suppress(OSError):  # it has been renamed, or its folder was removed
        aside.unlink()


def _put(aside: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(aside, path)  # unlike renaming, it fails if another thread or process was first
            return
        except FileExistsError:
            check_free(path)
        except OSError:  # a file system without hard links
            check_free(path)
    os.replace(aside, path)


@contextmanager
def whole_folder(path: Path, overwrite: bool = False, known: Collection[str] = ()) -> Iterator[Path]:
    """Like `whole_file` for a folder.

    Args:
        known: the names that a folder of this kind has in it: one that has others is never replaced.

    Raises:
        ConfigError: something is there already that may not be replaced.
        WriteError: as `whole_file`.
    """
    with ExitStack() as after, explained(path):
        check_free_folder(path, overwrite, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _made_beside(path, lambda new: new.mkdir())
        after.callback(shutil.rmtree, aside, ignore_errors=True)
        yield aside
        check_free_folder(path, overwrite, known)
        earlier = aside.with_name(f"{aside.name}-earlier")
        if path.exists():
            os.replace(path, earlier)
        try:
            os.replace(aside, path)
        except OSError:
            if earlier.exists():
                os.replace(earlier, path)
            raise
        shutil.rmtree(earlier, ignore_errors=True)


def check_free_folder(path: Path, overwrite: bool = False, known: Collection[str] = ()) -> None:
    """Raise `ConfigError` if a folder may not be written; see `whole_folder`."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise ConfigError(f"{path} is a file or a link where a folder is to be written, and is not replaced.")
    if others := sorted({each.name for each in path.iterdir()} - set(known)):
        raise ConfigError(f"{path} is a folder with other things in it ({others[0]}), so it is not replaced.")
    if not overwrite:
        raise ConfigError(f"{path} exists already; overwrite=True (--force) replaces it.")


def _made_beside(path: Path, make: Callable[[Path], object]) -> Path:
    """Make something new beside `path`, with a name that nobody can guess and its suffix, which writers look at.

    Some of them look at two, such as `.weights.h5`.
    """
    suffix = next(end for end in ("".join(path.suffixes[-2:]), path.suffix, "") if len(end) <= LONGEST_SUFFIX)
    new = path.with_name(f".vggft-{secrets.token_hex(8)}{suffix}")
    make(new)
    return new


def write_whole(path: Path, text: str, overwrite: bool = False) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path, overwrite) as aside:
        aside.write_text(text, encoding="utf-8")


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to add to it, or a new one; raise `ConfigError` for links and for what is no file."""
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise ConfigError(f"{path} is a link, a folder or a device, to which nothing is added: move it away.")
        return os.fdopen(os.open(path, how, 0o666), "ab")


def write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), overwrite: bool = False
) -> None:
    """Write rows as a CSV file; the columns are those given, and all further keys in order of first appearance.

    What a spreadsheet would run as a formula has an apostrophe before it, which reading it as a table takes away.
    """
    text = io.StringIO()
    names = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    writer = csv.DictWriter(text, list(map(guarded, names)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(guarded_row, rows))
    write_whole(path, text.getvalue(), overwrite)


def remove_own(folder: Path, names: re.Pattern[str], folders: bool = False) -> None:
    """Delete the files below a folder that have names of ours; links are neither followed nor deleted.

    Args:
        names: what the whole name of such a file matches.
        folders: whether to delete the folder too, and those in it, as far as they are empty then.
    """
    if folder.is_symlink():
        return
    for here, _, files in os.walk(folder, topdown=False):
        for file in map(Path(here).joinpath, filter(names.fullmatch, files)):
            if not file.is_symlink():
                file.unlink(missing_ok=True)
        if folders:
            with suppress(OSError):  # it is not empty
                Path(here).rmdir()
