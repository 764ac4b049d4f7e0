"""
One horizon's record: what was expected, how wrong it was, and so which experts count and how wide the quantiles are.

Every so often a forecast is written down; when its time comes it is compared with the load then seen. So the record
is of real errors at that very horizon, not of a model's assumption about them.

    x = sqrt(seen/u + g) - sqrt(expected/u + g)        u: the usual load, about a day's mean; g: `GROUND`

Counts scatter with the root of their size, so x has the same width at any load: errors of a quiet night do not widen
the quantiles of a busy hour by as many requests, nor those of the busy hour the night's. Near silence x is a
difference in units of the usual load: a burst out of nothing counts, and is not taken for a factor that the next busy
hour could be multiplied by. The histogram holds x as it was: scaled by its own recent size it would be sharper in calm,
and after a burst it would expect bursts that nobody ever saw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from tidegate.forecast import codes
from tidegate.forecast.experts import EXPERTS, Levels, Mix, forecasts, mix, mixed, reach, weights
from tidegate.forecast.sketch import SAMPLE_WEIGHT, Sketch, add, prior, quantiles

# Horizons with a record of their own, s; those between are mixed from their neighbours.
HORIZONS_S = (15.0, 60.0, 150.0, 360.0, 900.0)
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# Seconds between two forecasts of a record: at first as often as may be, later 500 errors a day are enough.
INTERVALS_S = (30.0, 30.0, 30.0, 60.0, 180.0)
INTERVAL_LATER_S = 180.0
LATER = 300 * SAMPLE_WEIGHT
# Forecasts under way at once; the oldest is dropped where ticks come too late.
PENDING_MAX = 6
# A forecast compared later than this share of its horizon, or one slow tick, is not compared at all.
LATE_SHARE, LATE_S = 0.25, 60.0
# Prior errors by horizon: Laplace of this scale and three times it, worth two samples. A little wider than what public
# traces of chat services show in the end: at the usual load the 90 % quantile is 1.18 times it (1.25 at 15 minutes).
PRIOR_SPREADS = (0.025, 0.025, 0.025, 0.033, 0.04)
PRIOR_SAMPLES = 2.0
# Mean absolute errors are kept in steps of 1/8000 up to 8; a new one moves the mean by 3 %.
LOSS_STEPS = 8_000.0
LOSS_CAP = 65_535
LOSS_GAIN = 0.03
LOSS_PRIOR = 800
# Errors of one morning lean to one side together: this share of their median is not believed at first, and half of that
# after so many errors. More doubt costs public traces more than it saves: some lean is real.
LEAN_DOUBT, LEAN_HALF = 1 / 3, 150 * SAMPLE_WEIGHT
# Share of the usual load below which the root goes over into a straight line: one request out of silence is little.
GROUND = 0.05
# So that silence over silence is no error.
GROUND_RPS = 1e-4
# Many deployments hold many of these: bytes take a fifth of the room of numbers.
_MEDIAN = LEVELS.index(0.5)
_EXPECTED = Struct(f"<{len(EXPERTS) + 1}H")
_CARRIES = tuple(reach(horizon) for horizon in HORIZONS_S)


def unit_rps(usual_rps: float) -> float:
    """What loads are measured in: the usual load, requests/s, > 0."""
    return usual_rps + GROUND_RPS


def rooted(rate_rps: float, unit: float) -> float:
    """A load on the scale on which errors are kept."""
    return math.sqrt(rate_rps / unit + GROUND)


def squared(root: float, unit: float) -> float:
    """The load at a place on the scale of `rooted`, requests/s; below 0 where the place is below that of no load."""
    return (root * root if root > 0.0 else 0.0) * unit - GROUND * unit


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast whose time has not come: when it was made, whole s, and packed codes of each expert and the mix."""

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
        index: Which of `HORIZONS_S`.
        written_s: When the last forecast was written down, whole s; 0: never.
        pending: Oldest first, at most `PENDING_MAX`.
        losses: Recent mean miss of each expert as a share of the usual load, because replicas are paid for requests and
            not for ratios; steps of 1/8000, shape (experts,).
        sketch: Errors x of the mix.
        form: The mix as a linear form; follows from `losses`.
        errors: x at each of `LEVELS`; follows from `sketch`.
        interval_s: Seconds between two forecasts; follows from `sketch`.
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
        """The record after the forecasts whose time has come were compared with the load seen now."""
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
        """The record with a new forecast written down."""
        each = forecasts(levels, carry=_CARRIES[self.index], factor=factor)
        expected = [codes.encode(value) for value in each]
        expected.append(codes.encode(mixed(self.form, levels, factor)))
        entry = Pending.of(int(time_s), expected)
        return self._holding((*self.pending[-PENDING_MAX + 1 :], entry), entry.made_s)

    def forgotten(self) -> "Track":
        """The record without the forecasts under way."""
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
    """The record with what follows from it filled in."""
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
    x at each of `LEVELS`, with as much of the median's lean as the number of errors bears.

    A ramp makes forecasts too low for half an hour, and each of its errors repeats the one before. Where that is all
    that was seen, it would lift every forecast once the ramp is over.
    """
    found, total = quantiles(sketch, LEVELS), sum(sketch)
    doubt = LEAN_DOUBT * found[_MEDIAN] * LEAN_HALF / (total + LEAN_HALF)
    return tuple([x - doubt for x in found])


def _moved(loss: int, miss: float) -> int:
    moved = round(loss + LOSS_GAIN * (miss * LOSS_STEPS - loss))
    return moved if moved < LOSS_CAP else LOSS_CAP


# Before anything was seen: equal experts, prior errors.
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
