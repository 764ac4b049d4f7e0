"""
The only module that uses the compiler (numba).

Machine code is cached on disk, in a folder whose name is a hash of the engine's sources: numba itself checks only the
file of the outermost function, and would miss a change in a file that it calls. If no folder can be written (a
read-only container without a home), each process compiles, which takes half a minute.
"""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from tidegate.errors import SourceError

try:
    import numba
except ImportError as missing:  # pragma: no cover - numba is there wherever the tests run
    raise SourceError(
        source="numba", reason="NotInstalled", detail="the backtest needs it: pip install '.[sim]' in the clone"
    ) from missing

Function = TypeVar("Function", bound=Callable[..., Any])


def cache_folder() -> Path | None:
    """Cache folder for machine code of exactly these sources; None if none can be written."""
    digest = sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    stated = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(stated) if stated else Path.home() / ".cache") / "tidegate" / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    return folder if os.access(folder, os.W_OK) else None


FOLDER = cache_folder()
if FOLDER is not None:
    numba.config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]


def compiled(function: Function) -> Function:
    """Compile a function at its first call, for the types of that call."""
    return cast("Function", numba.njit(cache=FOLDER is not None)(function))
