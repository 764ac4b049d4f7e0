"""
The record of one horizon: past forecasts and their errors, which give the weights of the experts and the quantiles.

Forecasts are recorded regularly. When the time that a forecast is for has come, it is compared with the observed load.
So the errors are real ones at that horizon, not assumptions of a model.

    x = sqrt(seen/u + g) - sqrt(expected/u + g)        u: `unit_rps`, g: `GROUND`

The unit u is the usual load, about a day's mean, plus `GROUND_RPS`. Counts scatter with the square root of their size,
so x has the same width at any load, and errors of a quiet night and of a busy hour are comparable. Near zero load, x is
a difference in units of u. So a burst out of nothing counts, and is not taken for a factor by which a busy hour could
be multiplied. The histogram stores x unscaled. Scaled by its recent size it would be sharper in calm periods, but after
a burst it would predict bursts that never occurred.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from tidegate.forecast import codes
from tidegate.forecast.experts import EXPERTS, Levels, Mix, forecasts, mix, mixed, reach, weights
from tidegate.forecast.sketch import SAMPLE_WEIGHT, Sketch, add, prior, quantiles

# Horizons with their own record, s; horizons in between are interpolated.
HORIZONS_S = (15.0, 60.0, 150.0, 360.0, 900.0)
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# Seconds between two forecasts of a record: short at first; later about 500 errors a day are enough.
INTERVALS_S = (30.0, 30.0, 30.0, 60.0, 180.0)
INTERVAL_LATER_S = 180.0
LATER = 300 * SAMPLE_WEIGHT
# Most pending forecasts; if there are more, the oldest is dropped.
PENDING_MAX = 6
# A forecast that is overdue by more than this share of its horizon and more than this many seconds is dropped.
LATE_SHARE, LATE_S = 0.25, 60.0
# Prior errors by horizon: Laplace with this scale and three times it, worth two samples. Slightly wider than what
# public traces of chat services show in the end: at the usual load the 90 % quantile is 1.15 times it (1.18 at six
# minutes, 1.25 at 15).
PRIOR_SPREADS = (0.025, 0.025, 0.025, 0.033, 0.04)
PRIOR_SAMPLES = 2.0
# Mean absolute errors are stored in steps of 1/8000 up to 8; a new one has a weight of 3 %.
LOSS_STEPS = 8_000.0
LOSS_CAP = 65_535
LOSS_GAIN = 0.03
LOSS_PRIOR = 800
# Errors of one morning are correlated, so this share of their median is ignored at first, and half of that share after
# 150 errors. On public traces more costs more than it saves, because some bias is real.
LEAN_DOUBT, LEAN_HALF = 1 / 3, 150 * SAMPLE_WEIGHT
# Share of the usual load below which the scale is nearly linear, so that one request after silence is a small error.
GROUND = 0.05
# Added to the usual load, so that days of few requests before a launch say little about the time after it. At three
# requests a minute chance alone would give x a standard deviation of 0.3; at a hundred times that load it is 0.03. Old
# errors take weeks to be forgotten, and meanwhile would ask for twice the replicas.
GROUND_RPS = 0.5
_MEDIAN = LEVELS.index(0.5)
# There are many pending forecasts over all deployments, and packed bytes take a fifth of the memory of numbers.
_EXPECTED = Struct(f"<{len(EXPERTS) + 1}H")
_CARRIES = tuple(reach(horizon) for horizon in HORIZONS_S)


def unit_rps(usual_rps: float) -> float:
    """The unit u of loads: the usual load and `GROUND_RPS`, requests/s, > 0."""
    return usual_rps + GROUND_RPS


def rooted(rate_rps: float, unit: float) -> float:
    """A load on the square-root scale of the errors."""
    return math.sqrt(rate_rps / unit + GROUND)


def squared(root: float, unit: float) -> float:
    """The inverse of `rooted`, requests/s; below 0 if `root` is below that of zero load."""
    return (root * root if root > 0.0 else 0.0) * unit - GROUND * unit


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast that is not due yet: when it was made, whole unix seconds, and codes of each expert and the mix."""

    made_s: int
    expected: bytes

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of each expert and of the mix; shape (experts + 1,)."""
        return _EXPECTED.unpack(self.expected)

    @classmethod
    def of(cls, made_s: int, expected: Sequence[int]) -> "Pending":
        """The forecast with these codes."""
        return cls(made_s, _EXPECTED.pack(*expected))


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """
    The record of one horizon.

    Args:
        index: Index into `HORIZONS_S`.
        written_s: When the last forecast was recorded, whole unix seconds; 0: never.
        pending: Pending forecasts, oldest first, at most `PENDING_MAX`.
        losses: Recent mean absolute error of each expert, in steps of 1/8000 of the usual load; shape (experts,). Not
            relative to the load, because replicas are paid for requests, not for ratios.
        sketch: Histogram of the errors x of the mix.
        form: The mix as a linear form; derived from `losses`.
        errors: x at each of `LEVELS`; derived from `sketch`.
        interval_s: Seconds between two forecasts; derived from `sketch`.
    """

    index: int
    written_s: int
    pending: tuple[Pending, ...]
    losses: tuple[int, ...]
    sketch: Sketch
    form: Mix
    errors: tuple[float, ...]
    interval_s: float

    def compared(self, *, time_s: float, seen_rps: float, usual_rps: float) -> "Track":
        """The record after comparing the forecasts that are due with the current load."""
        pending, horizon = self.pending, HORIZONS_S[self.index]
        if not pending or time_s < pending[0].made_s + horizon:
            return self
        losses, sketch, unit = self.losses, self.sketch, unit_rps(usual_rps)
        while pending and time_s >= pending[0].made_s + horizon:
            due, pending = pending[0], pending[1:]
            if time_s - due.made_s - horizon > max(LATE_SHARE * horizon, LATE_S):
                continue
            expected = [codes.decode(code) for code in due.codes]
            sketch = add(sketch, rooted(seen_rps, unit) - rooted(expected[-1], unit))
            misses = [abs(seen_rps - value) / unit for value in expected[:-1]]
            losses = tuple([_moved(loss, miss) for loss, miss in zip(losses, misses, strict=True)])
        if sketch is not self.sketch:
            return track(index=self.index, written_s=self.written_s, pending=pending, losses=losses, sketch=sketch)
        return self._holding(pending, self.written_s)

    def written(self, *, time_s: float, levels: Levels, factor: float) -> "Track":
        """The record with a new pending forecast."""
        each = forecasts(levels, carry=_CARRIES[self.index], factor=factor)
        expected = [codes.encode(value) for value in each]
        expected.append(codes.encode(mixed(self.form, levels, factor)))
        entry = Pending.of(int(time_s), expected)
        return self._holding((*self.pending[-PENDING_MAX + 1 :], entry), entry.made_s)

    def forgotten(self) -> "Track":
        """The record without its pending forecasts."""
        return self._holding((), 0)

    def _holding(self, pending: tuple[Pending, ...], written_s: int) -> "Track":
        return Track(
            index=self.index,
            written_s=written_s,
            pending=pending,
            losses=self.losses,
            sketch=self.sketch,
            form=self.form,
            errors=self.errors,
            interval_s=self.interval_s,
        )


def track(
    *, index: int, written_s: int, pending: tuple[Pending, ...], losses: tuple[int, ...], sketch: Sketch
) -> Track:
    """A record, with its derived fields."""
    return Track(
        index=index,
        written_s=written_s,
        pending=pending,
        losses=losses,
        sketch=sketch,
        form=mix(weights([loss / LOSS_STEPS for loss in losses]), carry=_CARRIES[index]),
        errors=_errors(sketch),
        interval_s=INTERVALS_S[index] if sum(sketch) < LATER else INTERVAL_LATER_S,
    )


def _errors(sketch: Sketch) -> tuple[float, ...]:
    """
    x at each of `LEVELS`, with part of the median ignored while there are few errors.

    On a ramp, forecasts are too low for half an hour, and each error repeats the previous one. If nothing else was
    observed yet, these errors would raise every forecast after the ramp.
    """
    found, total = quantiles(sketch, LEVELS), sum(sketch)
    doubt = LEAN_DOUBT * found[_MEDIAN] * LEAN_HALF / (total + LEAN_HALF)
    return tuple([x - doubt for x in found])


def _moved(loss: int, miss: float) -> int:
    moved = round(loss + LOSS_GAIN * (miss * LOSS_STEPS - loss))
    return moved if moved < LOSS_CAP else LOSS_CAP


# Initial records: equal weights of the experts, prior errors.
FRESH = tuple(
    track(
        index=index,
        written_s=0,
        pending=(),
        losses=(LOSS_PRIOR,) * len(EXPERTS),
        sketch=prior(PRIOR_SPREADS[index], samples=PRIOR_SAMPLES),
    )
    for index in range(len(HORIZONS_S))
)
