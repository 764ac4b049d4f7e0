"""
Numbers that come back from a memory, which a person or a damaged disk may have written.

In:    a value as JSON gave it.
Out:   the same value, if something that is remembered can be it. TypeError or ValueError otherwise: the part of the
       memory that it is in is dropped.
"""

# Nothing that is remembered is larger: unix times, requests, tokens.
MOST = 1e12


def number(value: object, *, least: float = 0.0, most: float = MOST) -> float:
    """A number within bounds; neither NaN nor infinite nor a truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{value!r} is not between {least:g} and {most:g}")
    return value


def optional(value: object, *, least: float = 0.0, most: float = MOST) -> float | None:
    """The same, or nothing."""
    return None if value is None else number(value, least=least, most=most)


def instant(value: object) -> float:
    """Seconds on some clock. A backtest begins at 0, and what was there before it is earlier."""
    return number(value, least=-MOST)


def moment(value: object) -> float | None:
    """An instant, or never."""
    return None if value is None else instant(value)


def whole(value: object, *, least: float = 0.0, most: float = MOST) -> int:
    """The same without what is behind the point."""
    return int(number(value, least=least, most=most))
