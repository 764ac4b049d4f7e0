"""
The one place that knows the compiler.

Machine code is kept on disk between runs, in a folder named after the engine's sources. The compiler itself looks only
at the file of the outermost function, so that without the name a change in a called file would go unnoticed.
Where no folder can be written (a read-only container without a home) each process compiles for itself: half a minute.
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
    """Where machine code of exactly these sources is kept; None where nothing can be written."""
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
    """Machine code of a function; the types are those of the first call."""
    return cast("Function", numba.njit(cache=FOLDER is not None)(function))
