"""Signs of life: files that a process touches as long as it lives, so that others notice when it is gone."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

STALE = 60.0  # seconds after which a file that was not touched does not count
RENEWAL = 10.0  # seconds between touches


class Pulse:
    """Touches files in a thread of its own, from `start` to `stop`.

    Args:
        files: returns those of the moment.
    """

    def __init__(self, files: Callable[[], Iterable[Path]]):
        self.files, self.over = files, threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Begin to touch them."""
        self.thread.start()

    def stop(self) -> None:
        """End, for good."""
        self.over.set()
        self.thread.join()

    def _beat(self) -> None:
        while not self.over.wait(RENEWAL):
            for file in self.files():
                with suppress(OSError):
                    os.utime(file)


def age_of(file: Path) -> float:
    """Return the seconds since a file was changed or touched, by the clock of its file system; 0 if that is unknown."""
    now = file.with_name(f".{uuid.uuid4().hex}")
    try:
        now.touch()
        return now.stat().st_mtime - file.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        with suppress(OSError):
            now.unlink(missing_ok=True)
