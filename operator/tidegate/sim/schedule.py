"""
The cheapest replicas over time for a demand that is known: exact, by dynamic programming.

In:    what each tier truly carries, demand per window, when a replica has to be created to serve in a window, prices,
       and a price for each late request and for each point of quality that is missing.
Out:   replicas per window and tier.
Rules: pure. A window's fleet is judged alone: the queue that an overloaded window leaves to the next is not seen. A
       replica of the next window already occupies its accelerators in this one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.sim.limits import Limits
from tidegate.units import SECONDS_PER_HOUR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What a step that cannot be taken costs: more than any fleet, and still a number to add up.
NEVER = 1e9
# Price of a replica that a lower bound asks for and that is not there, per window, $: far more than late requests or
# poor quality of a window can cost, far less than what cannot be.
MISSING_USD = 1e4
# Share of requests late in a fleet that is loaded to what it cannot exceed on average.
LATE_AT_FULL = 0.5
# Least distance between knee and ceiling, as a share of the ceiling.
SAFETY_MIN = 0.02
DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """
    One tier of one deployment.

    Args:
        fluid_rps, knee_rps: What a replica cannot exceed, and what it holds at the target.
        usd_per_hour: Price of a replica in each window; shape (windows,).
        created_s: Latest moment to create a replica that serves from a window's start, -inf: none; shape (windows,).
        stay_s: How long a replica is paid for after it is given up.
    """

    key: Key
    name: str
    fluid_rps: float
    knee_rps: float
    quality: float
    most: int
    initial: int
    accelerator: str
    accelerators: int
    usd_per_hour: Floats
    created_s: Floats
    stay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """
    What it costs to fail, $: per request outside its targets, and per request and unit of quality below the mean.

    Args:
        care: Widens the distance that a fleet keeps from what it cannot exceed.
        share: Share of the demand that is reckoned with; below 1 a fleet is trusted with more than the law says.
    """

    late_usd: float
    poor_usd: float = 0.0
    care: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """
    A problem: axes, demand by deployment (requests/s; shape (windows,)), accelerators there are in each window.

    Args:
        limits: Bounds by deployment in each window. A tier without an axis has no minimum.
        window_s: Length of a window, s.
        capacity: By accelerator; absent where there is no limit.
    """

    specs: Mapping[Key, DeploymentSpec]
    axes: Sequence[Axis]
    demand_rps: Mapping[Key, Floats]
    limits: Mapping[Key, Sequence[Limits]]
    window_s: float
    capacity: Mapping[str, Floats]


class Grid:
    """Every fleet of a course, one cell each; one dimension per axis."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.shape = tuple(a.most + 1 for a in course.axes)
        self.counts = np.indices(self.shape, sparse=True)
        self._allowed: dict[int, NDArray[np.bool_]] = {}
        self._rates = {k: self._rate(k) for k in course.specs}

    def cheapest(self, tolls: Mapping[Key, Toll]) -> Ints:
        """Replicas of the cheapest course, tolls included; shape (windows, axes)."""
        axes = self.course.axes
        start = tuple(a.initial for a in axes)
        value = np.full(self.shape, NEVER)
        value[start] = 0.0
        values = [value]
        steps = self._steps()
        for window in range(1, len(steps)):
            reached = values[-1]
            for axis in range(len(axes)):
                reached = _grown(reached, axis, steps[window, axis])
            reached = np.where(self._open(window - 1), reached, NEVER)
            for axis in range(len(axes)):
                reached = _shrunk(reached, axis)
            values.append(np.minimum(reached + self._stage(window, tolls), NEVER))
        path = [np.unravel_index(int(np.argmin(values[-1])), self.shape)]
        for window in range(len(values) - 1, 0, -1):
            path.append(self._before(values[window - 1], window, path[-1], steps[window]))
        return np.array(path[::-1], dtype=np.int64)

    def _before(self, value: Floats, window: int, to: tuple[np.intp, ...], steps: Floats) -> tuple[np.intp, ...]:
        """The fleet of the window before on the cheapest way to a fleet."""
        held = np.broadcast_arrays(*(np.maximum(t, n) for t, n in zip(to, self.counts, strict=True)))
        grown = sum(s * (h - n) for s, h, n in zip(steps, held, self.counts, strict=True))
        usd = np.where(self._open(window - 1)[tuple(held)], value + grown, NEVER)
        return np.unravel_index(int(np.argmin(usd)), self.shape)

    def quality(self, key: Key, replicas: Ints) -> float:
        """Mean quality over the requests of a deployment on a course, each window's shared out by knees."""
        demand = self.course.demand_rps[key]
        _, _, quality = self._rates[key]
        return float((demand * quality[tuple(replicas.T)]).sum() / max(demand.sum(), DUST))

    def _steps(self) -> Floats:
        """Money for one more replica from a window on, before it serves and after it went; shape (windows, axes)."""
        columns = []
        for axis in self.course.axes:
            starts = np.arange(len(axis.created_s)) * self.course.window_s
            paid_s = starts - axis.created_s + axis.stay_s
            columns.append(np.minimum(NEVER, paid_s * axis.usd_per_hour / SECONDS_PER_HOUR))
        return np.array(columns).T

    def _stage(self, window: int, tolls: Mapping[Key, Toll]) -> Floats:
        """Money of one window by fleet: replicas, late requests, missing quality and replicas; `NEVER`: not allowed."""
        course = self.course
        hours = course.window_s / SECONDS_PER_HOUR
        usd = sum(
            n * (a.usd_per_hour[window] * hours) for a, n in zip(course.axes, self.counts, strict=True)
        ) + np.zeros(self.shape)
        for key, toll in tolls.items():
            offered = float(course.demand_rps[key][window])
            demand = offered * toll.share
            fluid, safety, quality = self._rates[key]
            requests = offered * course.window_s
            late = late_share(demand, fluid, toll.care * safety, course.specs[key].slo.attainment)
            over = np.maximum(0.0, demand - fluid) * course.window_s
            usd = usd + toll.late_usd * (requests * late + over)
            usd = usd - toll.poor_usd * requests * (quality - course.specs[key].quality.average_minimum)
        return np.where(self._open(window), usd + MISSING_USD * self._missing(window), NEVER)

    def _rate(self, key: Key) -> tuple[Floats, Floats, Floats]:
        """
        What fleets of a deployment cannot exceed, how far below it they stay for their target, and their mean quality.

        The distance grows with the root of the fleet: many replicas share one queue's chance (square-root staffing).
        Checked by running fleets of 1 to 6 replicas of twelve tiers: the root is right within 4 % of the capacity.
        """

        def total(each: Callable[[Axis], float]) -> Floats:
            parts = zip(self.course.axes, self.counts, strict=True)
            return np.asarray(sum((each(a) * n for a, n in parts if a.key == key), np.zeros(self.shape)))

        safety = np.sqrt(total(lambda a: max(a.fluid_rps - a.knee_rps, SAFETY_MIN * a.fluid_rps) ** 2))
        served, good = total(lambda a: a.knee_rps), total(lambda a: a.knee_rps * a.quality)
        return total(lambda a: a.fluid_rps), safety, good / np.maximum(served, DUST)

    def _missing(self, window: int) -> Floats:
        """
        Replicas that lower bounds ask for and a fleet has not, in a window.

        Counted from the fleet that lacks fewest of those allowed: what budget, accelerators and upper bounds cannot
        carry gives way to them.
        """
        missing = np.zeros(self.shape)
        for key in self.course.specs:
            limits, mine = self.course.limits[key][window], self._mine(key)
            least = limits.low if self._awake(key, window) else limits.idle
            missing += np.maximum(0, least - sum(n for _, n in mine))
            for axis, n in mine:
                missing += np.maximum(0, limits.tiers[axis.name][0] - n)
        beyond: Floats = missing - missing[self._open(window)].min()
        return beyond

    def _mine(self, key: Key) -> list[tuple[Axis, Ints]]:
        """Axes of a deployment, with the counts of every fleet."""
        return [(a, n) for a, n in zip(self.course.axes, self.counts, strict=True) if a.key == key]

    def _open(self, window: int) -> NDArray[np.bool_]:
        """Fleets that upper bounds, budgets and accelerators allow in a window."""
        if window not in self._allowed:
            self._allowed[window] = self._judged(window)
        return self._allowed[window]

    def _awake(self, key: Key, window: int) -> bool:
        """Whether a deployment may not be at zero: somebody asks, or the idle time that its user wants is not over."""
        zero, demand = self.course.specs[key].scale_to_zero, self.course.demand_rps[key]
        waited = 0 if zero is None else ceil(zero.idle_s / self.course.window_s)
        return bool((demand[max(0, window - waited) : window + 1] > 0).any())

    def _judged(self, window: int) -> NDArray[np.bool_]:
        course = self.course
        allowed = np.ones(self.shape, dtype=bool)
        for key, spec in course.specs.items():
            mine = self._mine(key)
            allowed &= sum(n for _, n in mine) <= course.limits[key][window].high
            if spec.cost.budget_usd_per_hour is not None:
                usd = sum(n * a.usd_per_hour[window] for a, n in mine)
                allowed &= usd <= spec.cost.budget_usd_per_hour + DUST
        for name, limit in course.capacity.items():
            used = sum(
                n * a.accelerators for a, n in zip(course.axes, self.counts, strict=True) if a.accelerator == name
            )
            allowed &= used <= limit[window]
        return allowed


def late_share(demand: float, fluid: Floats, safety: Floats, attainment: float) -> Floats:
    """
    Share of requests outside their targets: a logistic curve through the target at the knee; shape as `fluid`.

    Args:
        demand: Requests/s. fluid: what the fleet cannot exceed. safety: its knee's distance from that.
    """
    if demand <= 0:
        return np.zeros_like(fluid)
    at_knee, at_full = _logit(min(max(1.0 - attainment, 1e-4), 0.4)), _logit(LATE_AT_FULL)
    room = (fluid - demand) / np.maximum(safety, DUST)
    exponent = np.clip(at_full + (at_knee - at_full) * room, -50.0, 50.0)
    return np.where(fluid > 0, 1.0 / (1.0 + np.exp(-exponent)), 1.0)


def _logit(share: float) -> float:
    return float(np.log(share / (1.0 - share)))


def _grown(value: Floats, axis: int, step_usd: float) -> Floats:
    """Least money at each count of one axis, growth paid: min over a <= b of value[a] + step * (b - a)."""
    moved = np.moveaxis(value, axis, 0).copy()
    for low, high in pairwise(range(len(moved))):
        moved[high] = np.minimum(moved[high], moved[low] + step_usd)
    return np.moveaxis(moved, 0, axis)


def _shrunk(value: Floats, axis: int) -> Floats:
    """Least money at each count of one axis, shrinking free: min over a >= b of value[a]."""
    moved = np.moveaxis(value, axis, 0)
    return np.moveaxis(np.minimum.accumulate(moved[::-1], axis=0)[::-1], 0, axis)
