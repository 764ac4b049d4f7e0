"""
The plan of one deployment, as if no other were there.

Growing is immediate and in one step. Anything smaller, or cheaper in another mix, waits until the whole
stabilisation window has been seen, is sized for the highest load in it, and has to pay for the move. A plan is
looked at anew only when something it rests on has left its band, so that noise moves nothing, and every ten minutes:
where the load stays as it is, the doubt about it still gets less.
"""

from dataclasses import replace

from tidegate.domain.decision import Reason
from tidegate.plan import regret, window
from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.fleet import Fleet
from tidegate.plan.limits import Limits, at_least, carried
from tidegate.plan.proof import nothing_cheaper
from tidegate.plan.regret import Regret
from tidegate.plan.scenario import Scenarios
from tidegate.plan.search import cheapest
from tidegate.plan.sight import Sight, not_gpu_bound, silent
from tidegate.plan.solve import Given, Solution, solve
from tidegate.plan.transition import advance

# Load and capacities may drift this far from where the plan was made before it is looked at anew.
LOAD_BAND = 0.03
CAPACITY_BAND = 0.03
# Replicas on their way are not called off earlier, however short the window: what they will do is not seen yet.
CALLED_OFF_S = 300.0
# Below these a new plan is not better, just different. Where little is reached, a twentieth of it is much.
SAVING_SHARE = 0.005
ATTAINMENT_STEP = 0.005
ATTAINMENT_STEP_SHARE = 0.05
# Exchanging replicas loses what serves meanwhile, and curves are least sure where nearly every target is missed.
EXCHANGE_STEP = 0.1


def pursue(draft: Draft) -> None:
    """Set the ideal fleet, what it gives up, and the reason."""
    _watch(draft)
    if draft.memory is None:
        _grow(draft, Reason.INITIAL)
        return
    changed = draft.basis != draft.memory.basis
    _take_in(draft)
    if not draft.limits.hold(draft.model, draft.current):
        _grow(draft, _asked(draft))
        return
    attained = draft.attained = draft.profile_of(draft.current).attainment(draft.demand)
    if attained < draft.asked - DUST and (draft.given is Given.NOTHING or changed or _drifted(draft)):
        _grow_or_explain(draft)
        return
    recovered = draft.given >= Given.TARGET and attained >= draft.asked
    if changed or recovered or draft.problem.survey_due(draft.time_s) or _drifted(draft):
        _reconsider(draft)
    elif draft.given is Given.NOTHING and _fewer_would_do(draft):
        draft.reason = Reason.STABILIZING


def _take_in(draft: Draft) -> None:
    """
    Where something is given up, replicas that were counted out and come after all belong to the plan again.

    They are asked for as long as they are stuck. Their tier stays blocked while others of it are, so that no search
    finds them: they would be called off for coming.
    """
    if draft.given is Given.NOTHING:
        return
    arrivals = zip(draft.current, draft.arrivals, strict=True)
    there = tuple([max(n, a.counted) if a.blocked else n for n, a in arrivals])
    if there != draft.current and draft.limits.hold(draft.model, there):
        draft.current = draft.ideal = there


def _asked(draft: Draft) -> Reason:
    """Why the plan in force is outside the limits."""
    if draft.limits.pinned:
        return Reason.PINNED
    slept = draft.memory is not None and draft.memory.asleep
    return Reason.ACTIVATED if slept else Reason.BOUNDS_CHANGED


def _watch(draft: Draft) -> None:
    """Take the load of now into the window."""
    draft.load = window.load(draft.model, draft.problem.forecast)
    draft.rising = draft.load > window.highest(draft.peaks) * (1 + LOAD_BAND)
    draft.peaks = window.remember(draft.peaks, draft.load, window_s=draft.spec.scale_down_window_s, time_s=draft.time_s)
    draft.peak = window.highest(draft.peaks)
    before = draft.regret
    draft.regret = regret.aged(before, draft.peak, draft.time_s, replicas=sum(draft.current))
    asked_less = draft.memory is not None and draft.error_budget.factor != draft.memory.error_budget.factor
    if asked_less or (before.load and not draft.regret.load):
        draft.load_ref = 0.0  # what was held back is looked at anew
    if draft.sight is not Sight.ALL:
        draft.watched_since_s = None
        return
    draft.fresh_s = draft.time_s
    if draft.watched_since_s is None:
        draft.watched_since_s = draft.time_s


def _highest(draft: Draft) -> float:
    """The load that anything smaller is planned for: the highest of the window, or one that was regretted."""
    return max(draft.peak, draft.regret.load)


def _drifted(draft: Draft) -> bool:
    held, ref = draft.peak, draft.load_ref
    if not ref * (1 - LOAD_BAND) <= held <= ref * (1 + LOAD_BAND):
        return True
    pairs = zip(draft.model.capacities, draft.capacities, strict=True)
    return any(abs(now - then) > CAPACITY_BAND * then for now, then in pairs)


def _settle(draft: Draft) -> None:
    """The plan stands: measure drift from here."""
    draft.load_ref = draft.peak
    draft.capacities = draft.model.capacities


def _grow_or_explain(draft: Draft) -> None:
    """Grow, unless what misses the targets is not the GPUs and demand has not risen either."""
    idle = not_gpu_bound(draft.problem.states, draft.spec.slo)
    if idle is not None and draft.demand.shown_rps <= draft.shown_ref * (1 + LOAD_BAND):
        draft.utilization, draft.reason = idle, Reason.NOT_GPU_BOUND
        return
    _grow(draft, Reason.DEMAND_RISING)


def _grow(draft: Draft, reason: Reason) -> None:
    """More replicas now: at first beside what runs, in another mix only where that is not enough."""
    draft.searched = True
    solution = _at_lead(draft, _kept(draft)) or _at_lead(draft, _unseen_kept(draft), by_giving_up=True)
    given_up = draft.given is not Given.NOTHING
    if solution is None or _calls_off(draft, solution.fleet) or (given_up and _no_better(draft, solution)):
        _settle(draft)
        return
    draft.ideal, draft.given = solution.fleet, solution.given
    draft.shown_ref = draft.demand.shown_rps
    draft.capacities = draft.model.capacities
    if solution.fleet == draft.current and draft.memory is not None:
        _settle(draft)
        return
    if reason is Reason.DEMAND_RISING:
        draft.regret = _regret_of_a_rise(draft, solution.fleet)
    draft.reason = reason
    draft.moved_s, draft.load_ref = draft.time_s, 0.0  # once the window has passed, see whether another mix is cheaper


def _regret_of_a_rise(draft: Draft, fleet: Fleet) -> Regret:
    """What is regretted once the plan has followed a rise to this fleet; a cheaper one is a shrink."""
    if draft.model.cost(fleet) < draft.model.cost(draft.current):
        return regret.shrunk(draft.regret, draft.time_s)
    seen = Regret(load=draft.load, needed=draft.demand.shown_rps, fleet=draft.current)
    return regret.grown(draft.regret, seen, draft.time_s)


def _kept(draft: Draft) -> Limits:
    """The limits, with everything that runs kept where they allow it."""
    return at_least(draft.limits, draft.current)


def _unseen_kept(draft: Draft) -> Limits:
    """The limits, with what runs of tiers that are not seen kept as far as they allow it: attainment goes first."""
    if draft.sight is not Sight.PART:
        return draft.limits
    unseen = silent(draft.problem.states)
    kept = [n if name in unseen else 0 for name, n in zip(draft.model.names, draft.current, strict=True)]
    return carried(at_least(draft.limits, kept), draft.model)


def _at_lead(draft: Draft, limits: Limits, *, by_giving_up: bool = False) -> Solution | None:
    """
    The cheapest fleet at the demand of when its slowest new replica will be ready.

    The lead time depends on which tiers are added, and they on the lead time: start with the fastest and go on
    until no slower one is added.
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


def _no_better(draft: Draft, solution: Solution) -> bool:
    """Whether a plan that gives something up is only another way of giving up as much, or smaller and too early."""
    if not draft.limits.hold(draft.model, draft.current):
        return False
    if solution.fleet == draft.current:
        return solution.given is draft.given
    grows = any(n > was for n, was in zip(solution.fleet, draft.current, strict=True))
    exchanged = any(n < was for n, was in zip(solution.fleet, draft.current, strict=True))
    if grows and solution.given is not draft.given:
        return False
    now = draft.profile_of(draft.current).attainment(draft.demand)
    then = draft.profile_of(solution.fleet).attainment(draft.demand)
    if grows and then > now + (EXCHANGE_STEP if exchanged else min(ATTAINMENT_STEP, ATTAINMENT_STEP_SHARE * now)):
        # One exchange at a time: how well the last one does is only seen when its replicas serve.
        return exchanged and any(a.healthy for a in draft.arrivals)
    return not (_cheaper(draft, solution) and _may_shrink(draft) and _as_good(draft, solution.fleet))


def _cheaper(draft: Draft, solution: Solution) -> bool:
    """Whether a plan saves enough; one that saves no money does where it takes fewer accelerators without a price."""
    model, cost = draft.model, draft.model.cost(draft.current)
    if solution.objective < cost * (1 - SAVING_SHARE) - DUST:
        return True
    usd = model.usd_per_hour(draft.current)
    return abs(model.usd_per_hour(solution.fleet) - usd) < DUST and solution.objective < cost - DUST


def _calls_off(draft: Draft, fleet: Fleet) -> bool:
    """Whether a plan takes back replicas that were asked for minutes ago and are still to come."""
    if draft.memory is None or not _asked_lately(draft) or not draft.limits.hold(draft.model, draft.current):
        return False
    return draft.takes_back(fleet, draft.current)


def _regretted(draft: Draft, fleet: Fleet) -> bool:
    """Whether a fleet is as cheap as the one that was too small minutes ago."""
    cost, small = draft.model.cost, draft.regret.fleet
    return bool(small) and cost(fleet) <= cost(small) + DUST


def _as_good(draft: Draft, fleet: Fleet) -> bool:
    """Whether a fleet reaches what the current one does also at the highest load of the window."""
    if _regretted(draft, fleet):
        return False
    demand = _demand_held(draft)
    now = draft.profile_of(draft.current).attainment(demand)
    return draft.profile_of(fleet).attainment(demand) >= now - min(ATTAINMENT_STEP, ATTAINMENT_STEP_SHARE * now) / 2


def _demand_held(draft: Draft) -> Scenarios:
    """The demand that a smaller fleet has to carry."""
    highest_rps = draft.peak / window.unit_usd(draft.model)
    return draft.demand.at_least(highest_rps).showing(draft.regret.needed)


def _reconsider(draft: Draft) -> None:
    """See whether a smaller fleet or another mix is cheaper, at the highest load of the window."""
    if not _may_shrink(draft):
        return
    draft.searched = True
    _settle(draft)
    goal = draft.goal(_demand_held(draft))
    worth_usd = draft.model.cost(draft.current) * (1 - SAVING_SHARE) - DUST
    if draft.given is Given.NOTHING and nothing_cheaper(draft.model, draft.limits, goal, below_usd=worth_usd):
        return
    solution = solve(draft.model, draft.limits, goal)
    better = solution.given < draft.given
    useful = (better or _cheaper(draft, solution)) and not _regretted(draft, solution.fleet)
    if solution.given > draft.given or not useful or not _reachable(draft, solution.fleet, better=better):
        if better and solution.fleet == draft.current:
            draft.given = solution.given
        return
    grows = any(n > now for n, now in zip(solution.fleet, draft.current, strict=True))
    draft.ideal, draft.given = solution.fleet, solution.given
    draft.reason = Reason.TIER_SWITCH if grows else Reason.DEMAND_FALLING
    draft.shown_ref = draft.demand.shown_rps
    draft.regret = regret.shrunk(draft.regret, draft.time_s)
    if grows:
        draft.moved_s = draft.time_s


def _may_shrink(draft: Draft) -> bool:
    """Only after a whole window was seen without a gap, and passed since the last growth; not in a rise."""
    since, length = draft.watched_since_s, draft.spec.scale_down_window_s
    if draft.sight is not Sight.ALL or since is None or draft.rising:
        return False
    if _asked_lately(draft):
        return False
    return draft.time_s - max(since, draft.moved_s) >= length - DUST


def _asked_lately(draft: Draft) -> bool:
    """Whether replicas are to come that were asked for minutes ago."""
    return any(a.healthy for a in draft.arrivals) and draft.time_s - draft.moved_s < CALLED_OFF_S


def _reachable(draft: Draft, fleet: Fleet, *, better: bool) -> bool:
    """Whether make-before-break has a first step towards it; for money alone nobody else makes room."""
    if fleet == draft.counted:
        return True
    limits = draft.limits if better else _beside_others(draft)
    step = advance(draft.model, limits, arrivals=draft.arrivals, target=fleet, carries=Carries(draft, fleet))
    return step != draft.counted


def _beside_others(draft: Draft) -> Limits:
    """The limits, with the accelerators that replicas of others have left to them."""
    used = classes_used(draft, draft.there)
    room = {n: min(most, used.get(n, 0) + draft.spare.get(n, most)) for n, most in draft.limits.room.items()}
    return replace(draft.limits, room=room)


class Carries:
    """Whether ready replicas serve the load of now as well as the target would, so that the others may go."""

    def __init__(self, draft: Draft, target: Fleet) -> None:
        self.draft, self.demand = draft, draft.demand_at(0.0)
        reached = draft.profile_of(target).attainment(self.demand)
        self.asked = min(draft.asked, reached) - DUST

    def __call__(self, fleet: Fleet) -> bool:
        return self.draft.profile_of(fleet).attainment(self.demand) >= self.asked


def _fewer_would_do(draft: Draft) -> bool:
    """Whether the load of now, unlike that of the window, could do with one replica less."""
    if _highest(draft) <= draft.load * (1 + LOAD_BAND):
        return False
    largest = max(range(len(draft.current)), key=lambda i: draft.current[i])
    fewer = list(draft.current)
    fewer[largest] -= 1
    if sum(fewer) < draft.limits.total[0] or fewer[largest] < draft.limits.tiers[largest][0]:
        return False
    return draft.profile_of(tuple(fewer)).attainment(draft.demand) >= draft.asked
