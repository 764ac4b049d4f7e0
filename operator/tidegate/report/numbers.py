"""
Numbers for a status: rounded, and stable.

A measured number changes at each tick. Writing each change would cost a write per deployment and tick and wake every
watcher. So the number in the status stays until the new one differs by more than a band.
"""

from datetime import UTC, datetime

# Relative band for rates, latencies and money; absolute band for shares.
BAND = 0.15
SHARE_BAND = 0.01
DIGITS = 3
_LARGEST = 1e11


def calm(value: float | None, previous: object) -> str | None:
    """
    A quantity as a decimal string with three digits; the previous one if the new one is close.

    Args:
        value: >= 0; None: unknown, and so is the result.
        previous: What the status holds now: a decimal string, or anything else for nothing.
    """
    if value is None:
        return None
    before = _number(previous)
    if before is not None and abs(value - before) <= BAND * before:
        return str(previous)
    return text(value)


def calm_share(value: float | None, previous: object, *, band: float = SHARE_BAND) -> str | None:
    """A share as a decimal string with three decimals; the previous one if the new one is within `band` of it."""
    if value is None:
        return None
    before = _number(previous)
    if before is not None and abs(value - before) <= band and (value >= 1.0) == (before >= 1.0):
        return str(previous)
    return plain(f"{value:.3f}")


def calm_count(value: float | None, previous: object) -> int | None:
    """A whole number, e.g. of milliseconds; the previous one if the new one is close."""
    if value is None:
        return None
    if isinstance(previous, int) and abs(value - previous) <= BAND * previous:
        return previous
    return round(value)


def text(value: float) -> str:
    """A number >= 0 as a decimal string with three digits: `11.8`, `0.000412`, `15`."""
    return plain(f"{min(max(value, 0.0), _LARGEST):.{DIGITS}g}")


def money(value: float) -> str:
    """An amount with two decimals."""
    return f"{min(max(value, 0.0), _LARGEST):.2f}"


def plain(number: str) -> str:
    """Without exponent and with at most nine decimals, as the API's pattern requires."""
    written = f"{float(number):.9f}"
    return written.rstrip("0").rstrip(".")


def instant(time_s: float) -> str:
    """Unix seconds in Kubernetes' time format."""
    return datetime.fromtimestamp(int(time_s), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
