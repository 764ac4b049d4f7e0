"""
Which fleet to grow to.

If nothing has to be given up: next to what runs, or in its place. Else the fleet that gives up as little as possible.
"""

from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet
from tidegate.plan.limits import Limits, at_least, carried
from tidegate.plan.scenario import Scenarios
from tidegate.plan.search import cheapest
from tidegate.plan.sight import Sight, silent
from tidegate.plan.solve import Given, Solution, solve

# Starting replicas are not cancelled earlier, however short the window: their effect has not been observed yet.
CANCEL_AFTER_S = 300.0


def whole(draft: Draft) -> Solution | None:
    """
    The fleet that gives nothing up: next to what runs, or in its place if that costs less even while both run.

    It does if what runs misses the targets at any load: three such replicas may need fifty good ones beside them until
    the share of all requests is met. A second search is worth it only if the new replicas could carry all demand alone.
    """
    kept = _at_lead(draft, _current_kept(draft))
    if kept is None or _added_rps(draft, kept.fleet) < draft.demand.shown_rps:
        return kept
    other = _at_lead(draft, _silent_kept(draft))
    if other is None:
        return kept
    both = tuple(map(max, draft.current, other.fleet))
    return other if draft.model.cost(both) < draft.model.cost(kept.fleet) - DUST else kept


def _added_rps(draft: Draft, fleet: Fleet) -> float:
    added = zip(fleet, draft.current, draft.model.capacities, strict=True)
    return sum([max(0, n - now) * capacity for n, now, capacity in added])


def best_left(draft: Draft) -> Solution | None:
    """The fleet that gives up as little as possible; None if it cancels replicas that were requested lately."""
    solution = _at_lead(draft, _silent_kept(draft), by_giving_up=True)
    return None if solution is None or _cancels_starting(draft, solution.fleet) else solution


def starting_lately(draft: Draft) -> bool:
    """Whether replicas are still starting and the plan last grew less than `CANCEL_AFTER_S` ago."""
    return any(a.healthy for a in draft.arrivals) and draft.time_s - draft.moved_s < CANCEL_AFTER_S


def _cancels_starting(draft: Draft, fleet: Fleet) -> bool:
    """Whether a plan cancels starting replicas that were requested less than `CANCEL_AFTER_S` ago."""
    if draft.memory is None or not starting_lately(draft) or not draft.limits.hold(draft.model, draft.current):
        return False
    return draft.takes_back(fleet, draft.current)


def _current_kept(draft: Draft) -> Limits:
    """The limits, with the current fleet as lower bounds as far as they allow it."""
    return at_least(draft.limits, draft.current)


def _silent_kept(draft: Draft) -> Limits:
    """The limits, with replicas of tiers without metrics kept as far as they fit; attainment is given up first."""
    if draft.sight is not Sight.PART:
        return draft.limits
    unseen = silent(draft.problem.states)
    kept = [n if name in unseen else 0 for name, n in zip(draft.model.names, draft.current, strict=True)]
    return carried(at_least(draft.limits, kept), draft.model)


def _at_lead(draft: Draft, limits: Limits, *, by_giving_up: bool = False) -> Solution | None:
    """
    The cheapest fleet for the demand at the time when its slowest new replica is ready.

    The lead time depends on which tiers are added, and these on the lead time. So start with the lead time of the
    fastest tier and repeat until no slower tier is added.
    """
    demand, solution = draft.demand, None
    for _ in range(len(draft.model.tiers)):
        solution = _solved(draft, limits, demand, by_giving_up=by_giving_up)
        if solution is None:
            return None
        lead = _lead(draft, solution.fleet)
        later = draft.demand_at(lead)
        if later.horizon_s <= demand.horizon_s:
            break
        demand = later
    return solution


def _solved(draft: Draft, limits: Limits, demand: Scenarios, *, by_giving_up: bool) -> Solution | None:
    goal = draft.goal(demand)
    if by_giving_up:
        return solve(draft.model, limits, goal)
    found = cheapest(draft.model, limits, goal)
    return None if found is None else Solution.of(found, Given.NOTHING)


def _lead(draft: Draft, fleet: Fleet) -> float:
    startups = draft.model.startup_s
    return max([s for s, n, now in zip(startups, fleet, draft.current, strict=True) if n > now], default=0.0)
