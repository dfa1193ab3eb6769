"""Claims: how processes agree on who computes what, by files that only one process can create.

Locks cannot be trusted on network file systems, but creating a file exclusively can. A process renews its claims while
it lives; a claim is stale when it was not renewed for `STALE` seconds by the clock of the file system, or when its
process was on this machine and is gone. If two processes hold the same claim, work is done twice, and nothing worse.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from .pulse import STALE, Pulse, age_of

CAN_ASK = os.name != "nt"  # whether a process lives: on Windows signal 0 is Ctrl-C


class Claims:
    """The claims in a directory. Used as a context manager, it renews its own claims and releases them at the end."""

    def __init__(self, path: Path):
        self.path, self.mine = path, set[Path]()
        self.pulse = Pulse(lambda: list(self.mine))

    def __enter__(self) -> Claims:
        self.path.mkdir(parents=True, exist_ok=True)
        self.pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pulse.stop()
        self.release()
        with suppress(OSError):  # other processes have claims in it
            self.path.rmdir()

    def take(self, positions: np.ndarray, buckets: np.ndarray, most: int) -> np.ndarray:
        """Claim whole buckets that hold up to `most` positions together, or one bucket that holds more.

        Args:
            positions: (n,) what may be claimed.
            buckets: (n,) the bucket of each position, which any process computes alike.
            most: number of positions that are computed in full batches.

        Returns:
            The claimed positions, sorted; none if other processes have claimed all buckets.
        """
        found, room = list[np.ndarray](), most
        for bucket, count in zip(*np.unique(buckets, return_counts=True), strict=True):
            if room <= 0:
                break
            if (count <= room or not found) and self._claim(self.path / f"{int(bucket):03x}"):
                found.append(positions[buckets == bucket])
                room -= int(count)
        return np.sort(np.concatenate(found)) if found else positions[:0]

    def release(self) -> None:
        """Release all claims of this process."""
        for file in list(self.mine):
            file.unlink(missing_ok=True)
            self.mine.discard(file)

    def _claim(self, file: Path) -> bool:
        for _ in range(2):
            try:
                with file.open("x", encoding="utf-8") as claim:
                    self.mine.add(file)  # before it is written, as a disk that is full ends that
                    json.dump({"host": platform.node(), "pid": os.getpid()}, claim)
                return True
            except FileExistsError:
                if not self._is_stale(file):
                    return False
                aside = file.with_name(f".{uuid.uuid4().hex}")
                with suppress(OSError):  # of several processes that find it stale, one can rename it
                    os.replace(file, aside)
                    aside.unlink()
            except FileNotFoundError:  # a process that ended has removed the directory
                self.path.mkdir(parents=True, exist_ok=True)
        return False

    def _is_stale(self, file: Path) -> bool:
        if file in self.mine:
            return False
        try:
            owner = json.loads(file.read_text(encoding="utf-8"))
            if owner["host"] == platform.node() and not _is_alive(int(owner["pid"])):
                return True
        except FileNotFoundError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not yet written, or damaged: its age decides
        return abs(age_of(file)) > STALE  # a clock that was set back makes the claims of the dead lie in the future


def _is_alive(pid: int) -> bool:
    if not CAN_ASK:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
