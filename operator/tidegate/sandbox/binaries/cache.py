"""
The user's cache folder: fetched programs, each with a note about its origin.

    ~/.cache/tidegate/programs/NAME/VERSION/NAME          the program, or a link to a shared one
    ~/.cache/tidegate/programs/NAME/VERSION/origin.txt    one line

VERSION is the wanted version. A program from a system package may be a little older; its origin says so.

Rules: programs are stored atomically (written to a temporary folder, then renamed). Only one process fetches at a time.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Tidegate's folder in the user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tidegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """
    The programs under one folder.

    Args:
        folder: The cache folder; created when something is stored.
    """

    folder: Path

    def find(self, name: str, version: str) -> tuple[Path, str] | None:
        """The stored program and its origin; None if it is not stored."""
        path = self._place(name, version) / name
        if not path.is_file():
            return None
        note = path.parent / "origin.txt"
        return path, note.read_text().strip() if note.exists() else "unknown origin"

    def store(self, name: str, version: str, *, program: Path, origin: str) -> Path:
        """Moves a program into the cache, replacing an existing one; returns its path."""
        place = self._place(name, version)
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=place.parent))
        shutil.move(program, aside / name)
        (aside / name).chmod(0o755)
        (aside / "origin.txt").write_text(origin + "\n")
        aside.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        aside.rename(place)
        return place / name

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A temporary folder on the cache's file system."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="work-") as folder:
            yield Path(folder)

    @contextmanager
    def lock(self, say: Say) -> Iterator[None]:
        """Locks the cache for this process; calls `say` if it has to wait for another one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another tidegate process is fetching programs into {self.folder}: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _place(self, name: str, version: str) -> Path:
        return self.folder / "programs" / name / version
