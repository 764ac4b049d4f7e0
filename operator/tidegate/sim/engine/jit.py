"""The one place that knows the compiler."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from tidegate.errors import SourceError

try:
    from numba import njit
except ImportError as missing:  # pragma: no cover - numba is there wherever the tests run
    raise SourceError(
        source="numba", reason="NotInstalled", detail="the backtest needs it: pip install 'tidegate[sim]'"
    ) from missing

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Machine code of a function, kept on disk between runs; the types are those of the first call."""
    return cast("Function", njit(cache=True)(function))
