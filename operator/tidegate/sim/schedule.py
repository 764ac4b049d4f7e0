"""
The cheapest replica counts over time for a known demand: exact, by dynamic programming.

In:    the true capacity of each tier, demand per window, when a replica must be created to serve in a window, prices,
       and penalties for late requests and for quality below the target.
Out:   replicas per window and tier.
Rules: pure. Each window is evaluated on its own: the queue that an overloaded window leaves behind is ignored. A
       replica of the next window already occupies its accelerators in the current one.
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

# Cost of a transition or fleet that is not allowed, $: more than any fleet, and still finite.
NEVER = 1e9
# Penalty per window for each replica below a lower bound, $: far more than late requests or poor quality of a window
# can cost, and far less than `NEVER`.
MISSING_USD = 1e4
# Share of late requests in a fleet loaded to its fluid limit, the rate that it cannot exceed on average.
LATE_AT_FULL = 0.5
# Smallest distance between the knee and the fluid limit, as a share of the fluid limit.
SAFETY_MIN = 0.02
DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """
    One tier of one deployment.

    Args:
        fluid_rps: Rate that a replica cannot exceed, requests/s.
        knee_rps: Highest rate of a replica at the target attainment, requests/s.
        most: Largest replica count that is considered.
        initial: Replicas at the start of the run.
        usd_per_hour: Price of a replica in each window; shape (windows,).
        created_s: Latest time to create a replica that serves from the start of each window; -inf: too late; shape
            (windows,).
        stay_s: How long a replica is billed after it is removed, s.
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
class Penalties:
    """
    Penalties of one deployment, and how far the simplified law is trusted.

    Args:
        late_usd: $ per request that misses its targets.
        poor_usd: $ per request and unit of quality below the target mean.
        care: Factor on the distance that a fleet keeps from its fluid limit.
        share: Share of the demand that is planned for; below 1, fleets are trusted with more than the law says.
    """

    late_usd: float
    poor_usd: float = 0.0
    care: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    A scheduling problem.

    Args:
        specs: By deployment.
        axes: The tiers to schedule. A tier without an axis has no minimum.
        demand_rps: Requests/s by deployment; shape (windows,).
        limits: Replica bounds by deployment, one per window.
        window_s: Length of a window, s.
        capacity: Accelerators by class; shape (windows,). Classes without a limit are absent.
    """

    specs: Mapping[Key, DeploymentSpec]
    axes: Sequence[Axis]
    demand_rps: Mapping[Key, Floats]
    limits: Mapping[Key, Sequence[Limits]]
    window_s: float
    capacity: Mapping[str, Floats]


class Grid:
    """All fleets of a problem: an array with one dimension per axis and one cell per fleet."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.shape = tuple(a.most + 1 for a in problem.axes)
        self.counts = np.indices(self.shape, sparse=True)
        self._allowed: dict[int, NDArray[np.bool_]] = {}
        self._rates = {k: self._rate(k) for k in problem.specs}

    def cheapest(self, penalties: Mapping[Key, Penalties]) -> Ints:
        """The cheapest schedule, penalties included: replicas; shape (windows, axes)."""
        axes = self.problem.axes
        start = tuple(a.initial for a in axes)
        value = np.full(self.shape, NEVER)
        value[start] = 0.0
        if not self._open(0)[start]:  # the first fleet may be above the limits; what is too much leaves at once
            for axis in range(len(axes)):
                value = _shrunk(value, axis)
        values = [value]
        steps = self._steps()
        for window in range(1, len(steps)):
            reached = values[-1]
            for axis in range(len(axes)):
                reached = _grown(reached, axis, steps[window, axis])
            reached = np.where(self._open(window - 1), reached, NEVER)
            for axis in range(len(axes)):
                reached = _shrunk(reached, axis)
            values.append(np.minimum(reached + self._stage(window, penalties), NEVER))
        path = [np.unravel_index(int(np.argmin(values[-1])), self.shape)]
        for window in range(len(values) - 1, 0, -1):
            path.append(self._before(values[window - 1], window, path[-1], steps[window]))
        return np.array(path[::-1], dtype=np.int64)

    def _before(self, value: Floats, window: int, to: tuple[np.intp, ...], steps: Floats) -> tuple[np.intp, ...]:
        """The fleet in the window before `window` on the cheapest path to the fleet `to`."""
        held = np.broadcast_arrays(*(np.maximum(t, n) for t, n in zip(to, self.counts, strict=True)))
        grown = sum(s * (h - n) for s, h, n in zip(steps, held, self.counts, strict=True))
        usd = np.where(self._open(window - 1)[tuple(held)], value + grown, NEVER)
        return np.unravel_index(int(np.argmin(usd)), self.shape)

    def quality(self, key: Key, replicas: Ints) -> float:
        """Mean quality over a deployment's requests under a schedule; tiers share each window's by their knees."""
        demand = self.problem.demand_rps[key]
        _, _, quality = self._rates[key]
        return float((demand * quality[tuple(replicas.T)]).sum() / max(demand.sum(), DUST))

    def _steps(self) -> Floats:
        """Cost of adding one replica in a window: while it starts, and after its removal, $; shape (windows, axes)."""
        columns = []
        for axis in self.problem.axes:
            starts = np.arange(len(axis.created_s)) * self.problem.window_s
            in_time = np.isfinite(axis.created_s)
            paid_s = np.where(in_time, starts - axis.created_s, 0.0) + axis.stay_s
            columns.append(np.where(in_time, paid_s * axis.usd_per_hour / SECONDS_PER_HOUR, NEVER))
        return np.array(columns).T

    def _stage(self, window: int, penalties: Mapping[Key, Penalties]) -> Floats:
        """Cost of one window by fleet, $: replicas plus all penalties; `NEVER` for fleets that are not allowed."""
        problem = self.problem
        hours = problem.window_s / SECONDS_PER_HOUR
        usd = sum(
            n * (a.usd_per_hour[window] * hours) for a, n in zip(problem.axes, self.counts, strict=True)
        ) + np.zeros(self.shape)
        for key, penalty in penalties.items():
            offered = float(problem.demand_rps[key][window])
            demand = offered * penalty.share
            fluid, safety, quality = self._rates[key]
            requests = offered * problem.window_s
            late = late_share(demand, fluid, penalty.care * safety, problem.specs[key].slo.attainment)
            over = np.maximum(0.0, demand - fluid) * problem.window_s
            usd = usd + penalty.late_usd * (requests * late + over)
            usd = usd - penalty.poor_usd * requests * (quality - problem.specs[key].quality.average_minimum)
        return np.where(self._open(window), usd + MISSING_USD * self._missing(window), NEVER)

    def _rate(self, key: Key) -> tuple[Floats, Floats, Floats]:
        """
        Fluid limit by fleet, distance between knee and fluid limit (both requests/s), and mean quality.

        The distance grows with the square root of the fleet size, because a larger fleet averages out more of the
        variability (square-root staffing). Checked by simulating fleets of 1 to 6 replicas of twelve tiers: the square
        root is right within 4 % of the capacity.
        """

        def total(each: Callable[[Axis], float]) -> Floats:
            parts = zip(self.problem.axes, self.counts, strict=True)
            return np.asarray(sum((each(a) * n for a, n in parts if a.key == key), np.zeros(self.shape)))

        safety = np.sqrt(total(lambda a: max(a.fluid_rps - a.knee_rps, SAFETY_MIN * a.fluid_rps) ** 2))
        served, good = total(lambda a: a.knee_rps), total(lambda a: a.knee_rps * a.quality)
        return total(lambda a: a.fluid_rps), safety, good / np.maximum(served, DUST)

    def _missing(self, window: int) -> Floats:
        """
        Replicas that each fleet lacks for its lower bounds in a window.

        Relative to the allowed fleet that lacks the fewest: lower bounds that do not fit under budget, accelerators and
        upper bounds give way as little as necessary.
        """
        missing = np.zeros(self.shape)
        for key in self.problem.specs:
            limits, mine = self.problem.limits[key][window], self._mine(key)
            least = limits.low if self._awake(key, window) else limits.idle
            missing += np.maximum(0, least - sum(n for _, n in mine))
            for axis, n in mine:
                missing += np.maximum(0, limits.tiers[axis.name][0] - n)
        beyond: Floats = missing - missing[self._open(window)].min()
        return beyond

    def _mine(self, key: Key) -> list[tuple[Axis, Ints]]:
        """The axes of a deployment, each with the replica counts of all fleets."""
        return [(a, n) for a, n in zip(self.problem.axes, self.counts, strict=True) if a.key == key]

    def _open(self, window: int) -> NDArray[np.bool_]:
        """Which fleets the upper bounds, budgets and accelerators allow in a window."""
        if window not in self._allowed:
            self._allowed[window] = self._judged(window)
        return self._allowed[window]

    def _awake(self, key: Key, window: int) -> bool:
        """Whether a deployment may not be at zero: requests arrive, or arrived within its idle time."""
        zero, demand = self.problem.specs[key].scale_to_zero, self.problem.demand_rps[key]
        waited = 0 if zero is None else ceil(zero.idle_s / self.problem.window_s)
        return bool((demand[max(0, window - waited) : window + 1] > 0).any())

    def _judged(self, window: int) -> NDArray[np.bool_]:
        problem = self.problem
        allowed = np.ones(self.shape, dtype=bool)
        for key, spec in problem.specs.items():
            mine = self._mine(key)
            allowed &= sum(n for _, n in mine) <= problem.limits[key][window].high
            if spec.cost.budget_usd_per_hour is not None:
                usd = sum(n * a.usd_per_hour[window] for a, n in mine)
                allowed &= usd <= spec.cost.budget_usd_per_hour + DUST
        for name, limit in problem.capacity.items():
            used = sum(
                n * a.accelerators for a, n in zip(problem.axes, self.counts, strict=True) if a.accelerator == name
            )
            allowed &= used <= limit[window]
        return allowed


def late_share(demand: float, fluid: Floats, safety: Floats, attainment: float) -> Floats:
    """
    Share of requests that miss their targets: a logistic curve that meets the target at the knee; shape as `fluid`.

    Args:
        demand: Requests/s.
        fluid: Rates that the fleets cannot exceed, requests/s.
        safety: Distance of their knees from that, requests/s.
        attainment: Target attainment.
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
    """Lowest cost to reach each count b of one axis from below: min over a <= b of value[a] + step_usd * (b - a)."""
    moved = np.moveaxis(value, axis, 0).copy()
    for low, high in pairwise(range(len(moved))):
        moved[high] = np.minimum(moved[high], moved[low] + step_usd)
    return np.moveaxis(moved, 0, axis)


def _shrunk(value: Floats, axis: int) -> Floats:
    """Lowest cost to reach each count b of one axis from above, which is free: min over a >= b of value[a]."""
    moved = np.moveaxis(value, axis, 0)
    return np.moveaxis(np.minimum.accumulate(moved[::-1], axis=0)[::-1], 0, axis)
