"""
Checks for values read back from saved memory, which a person or a damaged disk may have changed.

In:    a value as parsed from JSON.
Out:   the same value if it is plausible. Otherwise TypeError or ValueError: the part of the memory that contains it
       is dropped.
"""

# No remembered value is larger: unix times, requests, tokens.
MOST = 1e12


def number(value: object, *, least: float = 0.0, most: float = MOST) -> float:
    """A number within bounds; not NaN, infinite or a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{value!r} is not between {least:g} and {most:g}")
    return value


def optional(value: object, *, least: float = 0.0, most: float = MOST) -> float | None:
    """The same, or None."""
    return None if value is None else number(value, least=least, most=most)


def instant(value: object) -> float:
    """Seconds on some clock. May be negative: a backtest starts at 0 and has a past."""
    return number(value, least=-MOST)


def moment(value: object) -> float | None:
    """An instant, or None for never."""
    return None if value is None else instant(value)


def whole(value: object, *, least: float = 0.0, most: float = MOST) -> int:
    """The same, truncated to an integer."""
    return int(number(value, least=least, most=most))
