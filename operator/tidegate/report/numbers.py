"""
Numbers for a status: rounded, and as calm as their meaning.

A measured number moves at each tick. Written each time it would be a write per deployment and tick, and every watcher
would wake; so the number that stands there stays until the new one differs by more than its band.
"""

from datetime import UTC, datetime

# Shares of the value (rates, latencies, money), and steps of a share itself.
BAND = 0.15
SHARE_BAND = 0.01
DIGITS = 3
_LARGEST = 1e11


def calm(value: float | None, previous: object) -> str | None:
    """
    A quantity as decimal string with three digits; the previous one while the new one is near.

    Args:
        value: >= 0; None: not known, which is None again.
        previous: What the status holds now (a decimal string), or anything else for nothing.
    """
    if value is None:
        return None
    before = _number(previous)
    if before is not None and abs(value - before) <= BAND * before:
        return str(previous)
    return text(value)


def calm_share(value: float | None, previous: object, *, band: float = SHARE_BAND) -> str | None:
    """A share as decimal string with three decimals; the previous one while the new one is within `band` of it."""
    if value is None:
        return None
    before = _number(previous)
    if before is not None and abs(value - before) <= band and (value >= 1.0) == (before >= 1.0):
        return str(previous)
    return plain(f"{value:.3f}")


def calm_count(value: float | None, previous: object) -> int | None:
    """A whole number, e.g. of milliseconds; the previous one while the new one is near."""
    if value is None:
        return None
    if isinstance(previous, int) and abs(value - previous) <= BAND * previous:
        return previous
    return round(value)


def text(value: float) -> str:
    """A number >= 0 as decimal string with three digits: `11.8`, `0.000412`, `15`."""
    return plain(f"{min(max(value, 0.0), _LARGEST):.{DIGITS}g}")


def money(value: float) -> str:
    """An amount with two decimals."""
    return f"{min(max(value, 0.0), _LARGEST):.2f}"


def plain(number: str) -> str:
    """Without exponent and without more than nine decimals, as the API's pattern wants it."""
    written = f"{float(number):.9f}"
    return written.rstrip("0").rstrip(".")


def instant(time_s: float) -> str:
    """Unix seconds as Kubernetes writes a time."""
    return datetime.fromtimestamp(int(time_s), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
