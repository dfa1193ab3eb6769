"""Open files that others named: pipes, sockets and devices are named and never opened, as that can wait for ever."""

from __future__ import annotations

import os
import stat
from io import BufferedReader

from ..errors import VggftError

SPECIAL = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(VggftError, OSError):
    """A path, or what a link leads to, is a pipe, a socket or a device.

    Attributes:
        told: the reason, as the end of a sentence that begins with its name.
    """

    def __init__(self, path: str | os.PathLike[str], told: str):
        super().__init__(f"{os.fspath(path)} {told}.")
        self.told = told


def special(path: str | os.PathLike[str]) -> str:
    """Say why a path is not opened, "is a pipe (FIFO), not a file"; "" for files, folders and what does not exist."""
    try:
        return _special(os.stat(path).st_mode)  # noqa: PTH116, follows links, without opening what they lead to
    except (OSError, ValueError):
        return ""


def _special(mode: int) -> str:
    kind = SPECIAL.get(stat.S_IFMT(mode))
    return f"is {kind}, not a file" if kind else ""


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise `NotAFileError` for a pipe, a socket or a device."""
    if told := special(path):
        raise NotAFileError(path, told)


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        NotAFileError: it is a pipe, a socket or a device, or became one since it was looked at.
        OSError: as `open` does.
    """
    check_file(path)
    how = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, how))  # noqa: SIM115, which has an opener
    if told := _special(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotAFileError(path, told)
    return file


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a regular file in UTF-8; raises as `open_file` does."""
    with open_file(path) as file:
        return file.read().decode("utf-8")
