"""
Search for the best schedule with knowledge of the future; each candidate is judged by a full simulation.

In:    a scenario, the true performance of its tiers, a function that runs and scores a policy.
Out:   the best run found.

`schedule` is exact only for a simplified law that treats each window separately. So the penalty for late requests is
raised or lowered until the simulated run just keeps its promises.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from math import ceil, prod

import numpy as np

from tidegate.domain.key import Key
from tidegate.sim.limits import Limits, strictest
from tidegate.sim.pods import Market
from tidegate.sim.policies.base import Policy
from tidegate.sim.policies.bounds import Known
from tidegate.sim.policies.clairvoyant import Clairvoyant, Solution
from tidegate.sim.scenario import Scenario, Startup
from tidegate.sim.schedule import Axis, Floats, Grid, Ints, Penalties, Problem
from tidegate.sim.score import Result, Score, badness
from tidegate.sim.world import ACTUATION_S
from tidegate.units import SECONDS_PER_HOUR

# Length of a window of demand: shorter ones follow random variation, longer ones miss bursts.
WINDOW_S = 30.0
# Start-ups are assumed to take the median times e**(SPREADS * spread).
SPREADS = 1.0
# Largest number of fleets times windows in a problem: 160 MB of costs, a second of work.
STATES_MAX = 20_000_000
# The largest fleet of a tier that is considered, relative to what the peak needs.
PEAK_ROOM = 1.25
# Penalty of a late request over the cost of serving one, log2: first value and minimum (a good request must be worth
# its cost).
LATE_FIRST, LATE_LEAST = 5.0, 1.0
# The simplified law differs from the simulation, so several settings are tried: `care` and `share` of `Penalties`, and
# the steps by which the penalty for late requests moves (log2). Each begins with the penalties of the best run so far.
TRIES = (
    (1.0, 1.0, (3.0, 2.0, 1.0, 0.5, 0.5)),
    (0.6, 1.0, (1.0, 0.5, 0.5)),
    (0.6, 0.94, (1.0, 0.5, 0.5)),
    (0.6, 0.88, (1.0, 0.5, 0.5)),
    (1.6, 1.0, (1.0, 0.5, 0.5)),
)
# Highest penalty for quality relative to that for a late request, and the number of bisections to find the lowest
# penalty that keeps the mean quality.
POOR_MAX, HALVINGS, DUST = 50.0, 10, 1e-6


def problems(scenario: Scenario, known: Mapping[Key, Known]) -> list[Problem]:
    """
    One problem per deployment, or a single one if together they might need more accelerators than exist.

    The windows of a single problem are as long as a start-up, because an accelerator that one deployment gives up
    serves the other only that much later.
    """
    found: list[Problem] = []
    for tiers_max in (99, 2, 1):
        found = [problem(scenario, {k: v}, tiers_max=tiers_max) for k, v in known.items()]
        if len(found) > 1 and scarce(found):
            slowest = max(lead_s(v.service.truths[n].startup) for v in known.values() for n in v.cheapest)
            found = [problem(scenario, known, tiers_max=tiers_max, window_s=WINDOW_S * ceil(slowest / WINDOW_S))]
        if all(states(c) <= STATES_MAX for c in found):
            break
    return found


def scarce(found: list[Problem]) -> bool:
    """Whether the largest fleets under consideration exceed the accelerators."""
    limits = {n: float(limit.min()) for c in found for n, limit in c.capacity.items()}
    wanted = dict.fromkeys(limits, 0)
    for axis in (a for c in found for a in c.axes if a.accelerator in limits):
        wanted[axis.accelerator] += axis.most * axis.accelerators
    return any(wanted[n] > limit for n, limit in limits.items())


def lead_s(startup: Startup) -> float:
    """Assumed time from a decision to a ready replica, s."""
    return ACTUATION_S + startup.median_s * float(np.exp(SPREADS * startup.spread))


def states(of: Problem) -> int:
    """Number of fleets of a problem times its windows."""
    return prod(a.most + 1 for a in of.axes) * len(next(iter(of.demand_rps.values())))


def problem(scenario: Scenario, known: Mapping[Key, Known], *, tiers_max: int, window_s: float = WINDOW_S) -> Problem:
    """The problem of some deployments, with at most `tiers_max` cheapest tiers each."""
    starts = np.arange(0.0, scenario.duration_s, window_s)
    # The last window ends with the run.
    edges = np.append(starts, scenario.duration_s)
    demand = {k: _demand(v, edges) for k, v in known.items()}
    market = Market(pools=scenario.pools, faults=scenario.faults)
    limits = {n: [market.capacity(n, s) for s in edges] for n in scenario.pools}
    return Problem(
        specs={k: v.service.spec for k, v in known.items()},
        axes=[a for k, v in known.items() for a in axes(scenario, v, demand[k], starts, tiers_max)],
        demand_rps=demand,
        limits={k: _limits(scenario, v, edges) for k, v in known.items()},
        window_s=window_s,
        capacity={
            n: np.minimum(np.array(x[:-1], dtype=float), np.array(x[1:], dtype=float))
            for n, x in limits.items()
            if None not in x
        },
    )


def axes(scenario: Scenario, known: Known, demand: Floats, starts: Floats, tiers_max: int) -> list[Axis]:
    """Axes of a deployment: its cheapest tiers, those with a minimum, and those that the run starts with."""
    service, market = known.service, Market(pools=scenario.pools, faults=scenario.faults)
    spec, picked = service.spec, known.cheapest[:tiers_max]
    kept = [t.name for t in spec.tiers if any(limits.tiers[t.name][0] > 0 for limits in known.limits)]
    begun = [n for n, c in service.initial.items() if c > 0]
    # If no tier is usable, the first one serves what it can.
    names = dict.fromkeys([*(picked or [spec.tiers[0].name]), *kept, *begun])
    found = []
    for name in names:
        tier, usable = spec.tier(name), name in known.cheapest
        usd = np.array([market.price_usd(tier.accelerator, float(s)) for s in starts])
        initial = service.initial.get(name, 0)
        found.append(
            Axis(
                key=spec.key,
                name=name,
                fluid_rps=known.fluids_rps[name] if usable else 0.0,
                knee_rps=known.knees_rps[name] if usable else 0.0,
                quality=tier.quality,
                most=max(initial, _most(scenario, known, name, float(demand.max()))),
                initial=initial,
                accelerator=tier.accelerator,
                accelerators=tier.accelerators_per_replica,
                usd_per_hour=usd * tier.accelerators_per_replica,
                created_s=_created(scenario, known, name, starts),
                stay_s=min(scenario.drain_s, stay_s(known)),
            )
        )
    return found


def stay_s(known: Known) -> float:
    """How long a mean request decodes at the target ITL, s."""
    return float(known.service.traffic.output_tokens.mean()) * known.service.spec.slo.itl_s


def _limits(scenario: Scenario, known: Known, edges: Floats) -> list[Limits]:
    """The strictest bounds in force within each window."""
    return [
        strictest(known.limits[int(start // scenario.tick_s) : ceil(end / scenario.tick_s)])
        for start, end in pairwise(edges)
    ]


def _demand(known: Known, edges: Floats) -> Floats:
    """Requests/s per window, each taken over the time that requests stay: what is short of that, a batch absorbs."""
    window_s = float(edges[1] - edges[0])
    counts = np.histogram(known.service.traffic.arrival_s, edges)[0] / np.diff(edges)
    reach = int(stay_s(known) / window_s / 2 + 0.5)
    around = np.convolve(np.pad(counts, reach, mode="edge"), np.ones(2 * reach + 1), mode="valid") / (2 * reach + 1)
    return np.where(counts > 0, around, 0.0)


def _most(scenario: Scenario, known: Known, name: str, peak_rps: float) -> int:
    """Replicas of a tier that carry the busiest window alone with room, inside its bounds and its pool."""
    tier, knee = known.service.spec.tier(name), known.knees_rps[name]
    pool = scenario.pools[tier.accelerator].accelerator.capacity
    most = max(limits.tiers[name][1] for limits in known.limits)
    room = [] if pool is None else [pool // tier.accelerators_per_replica]
    need = ceil(PEAK_ROOM * peak_rps / knee) + 1 if knee > 0 else 1
    return min([most, *room, max([need, *(limits.low for limits in known.limits)])])


def _created(scenario: Scenario, known: Known, name: str, starts: Floats) -> Floats:
    """Latest tick to create a replica that serves from each of `starts`, given all faults; -inf: none."""
    startup = known.service.truths[name].startup
    pool = scenario.pools[known.service.spec.tier(name).accelerator]
    node_s = 0.0 if pool.warm is None else pool.provision_s
    ticks = np.arange(scenario.tick_s, scenario.duration_s, scenario.tick_s)
    ready = np.empty_like(ticks)
    for i, tick in enumerate(ticks):
        slow, begins_s = scenario.hindrance(known.service.spec.key, name, float(tick))
        ready[i] = begins_s + node_s + ACTUATION_S + slow * (lead_s(startup) - ACTUATION_S)
    # With a fault, a pod created later may be ready earlier. The minimum over this tick and all later ones is
    # ascending.
    soonest = np.minimum.accumulate(ready[::-1])[::-1]
    last = np.searchsorted(soonest, starts, side="right") - 1
    return np.where(last >= 0, ticks[np.maximum(last, 0)] if len(ticks) else -np.inf, -np.inf)


class Search:
    """
    Search over penalties, and over how far the simplified law is trusted.

    Args:
        known: True performance by deployment.
        run: Runs and scores a policy.
    """

    def __init__(self, scenario: Scenario, known: Mapping[Key, Known], run: Callable[[Policy], Result]) -> None:
        self._known, self._run = known, run
        self._grids = [Grid(c) for c in problems(scenario, known)]
        self._late = dict.fromkeys(known, LATE_FIRST)
        self._floors = {k: v.service.spec.quality.average_minimum for k, v in known.items()}
        self._seen: dict[bytes, Score] = {}
        self._best: Result | None = None
        self._best_late = dict(self._late)

    def best(self) -> Result:
        """Try all settings and return the best run."""
        for care, share, moves in TRIES:
            self._late = dict(self._best_late)
            for move in moves:
                self._turn(self._planned(care, share), move)
        assert self._best is not None
        return self._best

    def _planned(self, care: float, share: float) -> Score:
        """The score of the schedule that is cheapest at the current penalties."""
        penalties = {
            k: Penalties(late_usd=_usd(v) * 2 ** self._late[k], care=care, share=share) for k, v in self._known.items()
        }
        solutions = [Solution(problem=g.problem, replicas=planned(g, penalties, self._floors)) for g in self._grids]
        name = b"".join(solution.replicas.tobytes() for solution in solutions)
        if name not in self._seen:
            found = self._run(Clairvoyant(solutions))
            self._seen[name] = found.score
            if self._best is None or badness(found.score) < badness(self._best.score):
                self._best, self._best_late = found, dict(self._late)
        return self._seen[name]

    def _turn(self, score: Score, move: float) -> None:
        """
        Raise the penalty of deployments that missed their attainment, lower it for the others.

        Among deployments of one problem, it is raised only for the highest priority that missed.
        """
        for grid in self._grids:
            parts = {k: score.parts[str(k)] for k in grid.problem.specs}
            missed = [k for k, p in parts.items() if p.attainment is not None and p.attainment < p.target]
            first = max((parts[k].priority for k in missed), default=0)
            for key, part in parts.items():
                if key not in missed:
                    self._late[key] = max(LATE_LEAST, self._late[key] - move)
                elif part.priority == first:
                    self._late[key] += move
                if part.quality is not None and not part.quality_kept:
                    self._floors[key] += part.quality_target - part.quality


def planned(grid: Grid, penalties: Mapping[Key, Penalties], floors: Mapping[Key, float]) -> Ints:
    """The cheapest schedule whose mean quality reaches the floors; the best one found if none does."""
    mine = {k: penalties[k] for k in grid.problem.specs}
    best = grid.cheapest(mine)
    poor = [k for k in mine if grid.quality(k, best) < floors[k] - DUST]
    low, high = dict.fromkeys(poor, 0.0), {k: POOR_MAX * mine[k].late_usd for k in poor}
    price = dict(high)
    for _ in range(HALVINGS if poor else 0):
        schedule = grid.cheapest(mine | {k: replace(mine[k], poor_usd=price[k]) for k in poor})
        kept = {k: grid.quality(k, schedule) >= floors[k] - DUST for k in poor}
        if all(kept.values()) or price == high:
            best = schedule
        high |= {k: price[k] for k in poor if kept[k]}
        low |= {k: price[k] for k in poor if not kept[k]}
        price = {k: (low[k] + high[k]) / 2 for k in poor}
    return best


def _usd(known: Known) -> float:
    """
    Cost of one request on the cheapest usable tier that has a price, $; if there is none, of one second of the first
    tier that has one, or else at $1/h.
    """
    requests = [known.usd_per_request(name) for name in known.cheapest]
    seconds = [usd / SECONDS_PER_HOUR for usd in (*known.prices_usd.values(), 1.0)]
    return next(usd for usd in (*requests, *seconds) if usd > 0)
