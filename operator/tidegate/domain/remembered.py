"""
Numbers read back from a stored memory, which a person may have edited or a disk may have damaged.

In:    a value as JSON gave it.
Out:   the same value, if it is one that can have been remembered. TypeError or ValueError otherwise: the part of the
       memory that holds it is dropped.
"""

# No remembered value is larger: unix times, requests, tokens.
MOST = 1e12


def number(value: object, *, least: float = 0.0, most: float = MOST) -> float:
    """A number within bounds; neither NaN nor infinite nor a truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{value!r} is not between {least:g} and {most:g}")
    return value


def optional(value: object, *, least: float = 0.0, most: float = MOST) -> float | None:
    """A number within bounds, or None."""
    return None if value is None else number(value, least=least, most=most)


def instant(value: object) -> float:
    """Seconds on some clock. A backtest begins at 0, and what was there before it is earlier."""
    return number(value, least=-MOST)


def moment(value: object) -> float | None:
    """An instant, or None: never."""
    return None if value is None else instant(value)


def whole(value: object, *, least: float = 0.0, most: float = MOST) -> int:
    """A number within bounds, its fraction cut off."""
    return int(number(value, least=least, most=most))
