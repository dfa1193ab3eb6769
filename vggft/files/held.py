"""One process at a time: a folder that a run holds, so that no other one writes into it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class HeldFolder:
    """A folder that nobody else holds, until `release`, or until this process ends, however it does.

    The lock is the system's, on the folder itself: no file is left, and after a SIGKILL it is free. It holds among
    processes of one machine; where a system or a file system has no such locks, as on Windows, nobody is kept out.

    Raises:
        RunError: another process, or another call in this one, holds it; the message says which.
    """

    def __init__(self, path: Path):
        self.path, self._file, self._process = path, -1, os.getpid()
        with suppress(OSError):  # Windows cannot open a folder
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            self._lock()
        except BlockingIOError:
            holder = self._holder()
            self.release()
            who = "another call in this process" if holder == os.getpid() else "another process"
            who += f" ({holder})" if holder not in (None, os.getpid()) else ""
            raise RunError(
                f"run_dir {path} is in use: {who} is running in it. Wait until it has ended, or name another directory."
            ) from None

    def __del__(self) -> None:
        self.release()

    def _lock(self) -> None:
        if self._file < 0 or fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass

    def _holder(self) -> int | None:
        """Return the number of the process that holds the folder, if the system tells."""
        with suppress(OSError, ValueError, IndexError):
            state = os.fstat(self._file)
            mine = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
            for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
                told = line.split()
                if told[1] == "FLOCK" and told[5] == mine:
                    return int(told[4]) or None
        return None

    def is_there(self) -> bool:
        """Whether the path still leads to this folder: it was not removed, renamed or replaced."""
        try:
            found = os.stat(self.path)  # noqa: PTH116, as `fstat`
            return self._file < 0 or os.path.samestat(found, os.fstat(self._file))
        except OSError:
            return False

    def release(self) -> None:
        """Let others use the folder."""
        if self._file >= 0:
            with suppress(OSError):
                if fcntl is not None and self._process == os.getpid():  # a fork that ends leaves the lock to its parent
                    fcntl.flock(self._file, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
                os.close(self._file)
            self._file = -1
