"""Claims: an agreement between processes on who computes what, by files that only one process can create.

No locks are held, since locks are not to be trusted on network file systems; creating a file exclusively is. A claim
counts as long as its process is alive: on this machine that can be asked, of other machines the claim has to be younger
than `STALE`, by the clock of the file system. Two processes that both believe to have a claim do work twice, no more.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

STALE = 60.0  # seconds without a sign of life
SIGN_OF_LIFE = 10.0  # seconds between two


class Claims:
    """The claims in a directory; as a context, it lets go of its own at the end, and shows signs of life meanwhile."""

    def __init__(self, path: Path):
        self.path, self.mine = path, set[Path]()
        self.over = threading.Event()
        self.pulse = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Claims:
        self.path.mkdir(parents=True, exist_ok=True)
        self.pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self.pulse.join()
        self.release()
        with suppress(OSError):  # others have claims in it
            self.path.rmdir()

    def take(self, positions: np.ndarray, buckets: np.ndarray, most: int) -> np.ndarray:
        """Claim whole buckets of positions until there are `most`; those that were had, maybe none."""
        found: list[np.ndarray] = []
        for bucket in np.unique(buckets):
            if sum(map(len, found)) >= most:
                break
            if self._claim(self.path / f"{int(bucket):03x}"):
                found.append(positions[buckets == bucket])
        return np.sort(np.concatenate(found)) if found else positions[:0]

    def release(self) -> None:
        """Let go of all claims of this process."""
        for file in list(self.mine):
            file.unlink(missing_ok=True)
            self.mine.discard(file)

    def _claim(self, file: Path) -> bool:
        for _ in range(2):
            try:
                with file.open("x") as claim:
                    json.dump({"host": platform.node(), "pid": os.getpid()}, claim)
                self.mine.add(file)
                return True
            except FileExistsError:
                if not self._is_stale(file):
                    return False
                aside = file.with_name(f".{uuid.uuid4().hex}")
                with suppress(OSError):  # of several that find it stale one can rename it
                    os.replace(file, aside)
                    aside.unlink()
            except FileNotFoundError:  # the directory was removed by one that ended
                self.path.mkdir(parents=True, exist_ok=True)
        return False

    def _is_stale(self, file: Path) -> bool:
        if file in self.mine:
            return False
        try:
            owner = json.loads(file.read_text())
            if owner["host"] == platform.node():
                return not _is_alive(int(owner["pid"]))
        except FileNotFoundError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not yet written, or damaged: by its age
        return self._age(file) > STALE

    def _age(self, file: Path) -> float:
        """Seconds since the last sign of life, by the clock of the file system."""
        now = self.path / f".{uuid.uuid4().hex}"
        try:
            now.touch()
            return now.stat().st_mtime - file.stat().st_mtime
        except OSError:
            return 0.0
        finally:
            now.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self.over.wait(SIGN_OF_LIFE):
            for file in list(self.mine):
                with suppress(OSError):
                    os.utime(file)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
