"""
One horizon's record: what was expected, how wrong it was, and so which experts count and how wide the quantiles are.

Every `interval_s` a forecast is written down; when its time comes it is compared with the load then seen. So the record
is of real errors at that very horizon, not of a model's assumption about them.
"""

from dataclasses import dataclass

import math

from tidegate.forecast import codes
from tidegate.forecast.experts import EXPERTS, Forecasts, weights
from tidegate.forecast.sketch import Sketch, add, prior, quantiles

# Horizons with a record of their own, s; those between are mixed from their neighbours.
HORIZONS_S = (15.0, 60.0, 150.0, 360.0, 900.0)
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# A forecast per minute at the short horizons, every quarter of the horizon at the long ones.
INTERVALS_S = (60.0, 60.0, 60.0, 90.0, 225.0)
# Forecasts under way at once; the oldest is dropped where ticks come too late.
PENDING_MAX = 6
# A forecast compared later than this share of its horizon (or this many seconds) is not compared at all.
LATE_SHARE, LATE_S = 0.25, 30.0
# Prior errors: +-8 % at 15 s to +-20 % at 15 minutes (Laplace scale), worth eight samples.
PRIOR_SPREADS = (0.08, 0.1, 0.12, 0.15, 0.2)
PRIOR_SAMPLES = 8.0
# Losses are kept in steps of 1/8000 up to 8; a new one moves the mean by a fiftieth.
LOSS_STEPS = 8_000.0
LOSS_GAIN = 0.02
LOSS_PRIOR = 800


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast whose time has not come: when it was made (whole s), and codes of each expert and of the mix."""

    made_s: int
    expected: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """
    The record of one horizon.

    Args:
        pending: Oldest first, at most `PENDING_MAX`.
        losses: Recent mean absolute error of each expert in steps of 1/8000; shape (experts,).
        sketch: Errors of the mix.
        shares: Share of each expert in the mix; follows from `losses`.
        factors: `exp(error)` at each of `LEVELS`; follows from `sketch`.
    """

    pending: tuple[Pending, ...]
    losses: tuple[int, ...]
    sketch: Sketch
    shares: tuple[float, ...]
    factors: tuple[float, ...]


def track(*, pending: tuple[Pending, ...], losses: tuple[int, ...], sketch: Sketch) -> Track:
    """The record with what follows from it filled in."""
    return Track(
        pending=pending,
        losses=losses,
        sketch=sketch,
        shares=weights(tuple(loss / LOSS_STEPS for loss in losses)),
        factors=tuple(math.exp(x) for x in quantiles(sketch, LEVELS)),
    )


def fresh(index: int) -> Track:
    """The record of a horizon before anything was seen: equal experts, prior errors."""
    return _FRESH[index]


def mixed(shares: tuple[float, ...], expected: Forecasts) -> float:
    """The mix of the experts, requests/s."""
    a, b, c, d, e, f, g = shares
    p, q, r, s, t, u, v = expected
    return a * p + b * q + c * r + d * s + e * t + f * u + g * v


def is_due(record: Track, *, index: int, time_s: float) -> bool:
    """True where a forecast's time has come, or a new one should be written down."""
    if not record.pending:
        return True
    return (
        time_s >= record.pending[0].made_s + HORIZONS_S[index]
        or time_s >= record.pending[-1].made_s + INTERVALS_S[index]
    )


def compared(record: Track, *, index: int, time_s: float, seen_rps: float, small_rps: float) -> Track:
    """The record after the forecasts whose time has come were compared with the load seen now."""
    horizon = HORIZONS_S[index]
    pending, losses, sketch = record.pending, record.losses, record.sketch
    while pending and time_s >= pending[0].made_s + horizon:
        due, pending = pending[0], pending[1:]
        if time_s - due.made_s - horizon > max(LATE_SHARE * horizon, LATE_S):
            continue
        errors = [math.log((seen_rps + small_rps) / (codes.decode(c) + small_rps)) for c in due.expected]
        sketch = add(sketch, errors[-1])
        losses = tuple(_moved(loss, abs(x)) for loss, x in zip(losses, errors[:-1], strict=True))
    if sketch is record.sketch:
        return record if pending is record.pending else _with_pending(record, pending)
    return track(pending=pending, losses=losses, sketch=sketch)


def _moved(loss: int, error: float) -> int:
    return round(min(loss + LOSS_GAIN * (error * LOSS_STEPS - loss), 65_535.0))


def written(record: Track, *, index: int, time_s: float, expected: Forecasts) -> Track:
    """The record with a new forecast written down, where one is due."""
    pending = record.pending
    if pending and time_s < pending[-1].made_s + INTERVALS_S[index]:
        return record
    entry = Pending(int(time_s), tuple(map(codes.encode, (*expected, mixed(record.shares, expected)))))
    return _with_pending(record, (*pending[-PENDING_MAX + 1 :], entry))


def _with_pending(record: Track, pending: tuple[Pending, ...]) -> Track:
    return Track(
        pending=pending, losses=record.losses, sketch=record.sketch, shares=record.shares, factors=record.factors
    )


_FRESH = tuple(
    track(pending=(), losses=(LOSS_PRIOR,) * len(EXPERTS), sketch=prior(spread, samples=PRIOR_SAMPLES))
    for spread in PRIOR_SPREADS
)
