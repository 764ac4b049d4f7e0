"""
The plan of one deployment, regardless of the others.

Growth is immediate and in one step. A smaller fleet, or a cheaper mix, waits until a whole stabilization window was
observed, is sized for the highest load in it, and must pay for the move. A plan is reconsidered only when the spec
changes, when load or a capacity leaves a band around where the plan was made (so that noise moves nothing), when the
fleet no longer meets the target, and every ten minutes, because uncertainty about a steady load decreases.
"""

from dataclasses import replace

import numpy as np

from tidegate.domain.decision import Reason
from tidegate.plan import regret, window
from tidegate.plan.cuts import DUST, Goal
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.fleet import Fleet, adds_to, mean_quality, with_more
from tidegate.plan.growth import best_left, starting_lately, whole
from tidegate.plan.limits import Limits
from tidegate.plan.proof import nothing_cheaper
from tidegate.plan.regret import Regret
from tidegate.plan.scenario import Scenarios
from tidegate.plan.sight import Sight, not_gpu_bound
from tidegate.plan.solve import Given, Solution, solve
from tidegate.plan.transition import advance

# Load and capacities may drift this far from where the plan was made before it is reconsidered.
LOAD_BAND = 0.03
CAPACITY_BAND = 0.03
# Gains below these make a plan different, not better. At low attainment a twentieth of it is already much.
SAVING_SHARE = 0.005
ATTAINMENT_STEP = 0.005
ATTAINMENT_STEP_SHARE = 0.05
QUALITY_STEP = 0.005
# How the traffic is split over the tiers, and so the mean quality, is not known more precisely than this.
QUALITY_DOUBT = 0.0005
# An exchange of replicas loses attainment on the way, and curves are least certain where nearly every target is missed.
EXCHANGE_STEP = 0.1


def pursue(draft: Draft) -> None:
    """Set the ideal fleet, what it gives up, and the reason."""
    _record_load(draft)
    if draft.memory is None:
        _grow(draft, Reason.INITIAL)
        return
    changed = draft.basis != draft.memory.basis
    _readmit_late(draft)
    _forgo_exchange(draft)
    if not draft.limits.hold(draft.model, draft.current):
        _grow(draft, _reason_outside_limits(draft))
        return
    attained = draft.attained = draft.profile_of(draft.current).attainment(draft.demand)
    if attained < draft.asked - DUST and (draft.given is Given.NOTHING or changed or _drifted(draft)):
        _grow_or_explain(draft)
        return
    recovered = draft.given >= Given.TARGET and attained >= draft.asked
    if changed or recovered or draft.problem.survey_due(draft.time_s) or _drifted(draft):
        _reconsider(draft)
    if draft.reason is Reason.STEADY and (draft.given is Given.NOTHING or recovered) and _fewer_would_do(draft):
        draft.reason = Reason.STABILIZING


def _readmit_late(draft: Draft) -> None:
    """
    If something is given up, stuck replicas that become able to start after all are planned with again.

    They stay requested while they are stuck. Their tier stays blocked while others of it are stuck, so no search would
    include them, and they would be cancelled just when they become ready.
    """
    if draft.given is Given.NOTHING:
        return
    arrivals = zip(draft.current, draft.arrivals, strict=True)
    there = tuple([max(n, a.counted) if a.blocked else n for n, a in arrivals])
    if there != draft.current and draft.limits.hold(draft.model, there):
        draft.current = draft.ideal = there


def _forgo_exchange(draft: Draft) -> None:
    """
    Plan with what runs if it keeps the promise, and the limits leave no first step from it to the planned mix.

    The mix was planned before there were replicas, and sharing accelerators gave others first. It would never be
    carried out, and what is reserved for it would be lost to everybody.
    """
    ready = draft.ready
    waits = draft.given is Given.NOTHING and ready == draft.counted and draft.limits.hold(draft.model, ready)
    if not waits or _reachable(draft, draft.current, draft.limits):
        return
    goal = draft.goal(_demand_held(draft))
    kept = draft.profile_of(ready).attainment(goal.demand) >= draft.asked - DUST
    if kept and not _lacks_quality(draft, ready, goal):
        draft.current = draft.ideal = ready


def _reason_outside_limits(draft: Draft) -> Reason:
    """Why the plan in force is outside the limits."""
    if draft.limits.pinned:
        return Reason.PINNED
    slept = draft.memory is not None and draft.memory.asleep
    return Reason.ACTIVATED if slept else Reason.BOUNDS_CHANGED


def _record_load(draft: Draft) -> None:
    """Record the current load in the window, and update the regret and the times of observation."""
    draft.load = window.load(draft.model, draft.problem.forecast)
    draft.rising = draft.load > window.highest(draft.peaks) * (1 + LOAD_BAND)
    draft.peaks = window.remember(draft.peaks, draft.load, window_s=draft.spec.scale_down_window_s, time_s=draft.time_s)
    draft.peak = window.highest(draft.peaks)
    before = draft.regret
    draft.regret = regret.aged(before, draft.peak, draft.time_s, replicas=sum(draft.current))
    asked_less = draft.memory is not None and draft.error_budget.factor != draft.memory.error_budget.factor
    if asked_less or (before.load and not draft.regret.load):
        draft.load_ref = 0.0  # reconsider what was held back
    if draft.sight is not Sight.ALL:
        draft.watched_since_s = None
    elif draft.watched_since_s is None:
        draft.watched_since_s = draft.time_s


def _highest(draft: Draft) -> float:
    """The load that a smaller fleet must carry: the highest of the window, or a regretted one."""
    return max(draft.peak, draft.regret.load)


def _drifted(draft: Draft) -> bool:
    held, ref = draft.peak, draft.load_ref
    if not ref * (1 - LOAD_BAND) <= held <= ref * (1 + LOAD_BAND):
        return True
    pairs = zip(draft.model.capacities, draft.capacities, strict=True)
    return any(abs(now - then) > CAPACITY_BAND * then for now, then in pairs)


def _settle(draft: Draft) -> None:
    """Keep the plan and measure drift from here."""
    draft.load_ref = draft.peak
    draft.capacities = draft.model.capacities


def _grow_or_explain(draft: Draft) -> None:
    """Grow, unless the GPUs are not the bottleneck and demand has not risen."""
    idle = not_gpu_bound(draft.problem.states, draft.spec.slo)
    if idle is not None and draft.demand.shown_rps <= draft.shown_ref * (1 + LOAD_BAND):
        draft.utilization, draft.reason = idle, Reason.NOT_GPU_BOUND
        return
    _grow(draft, Reason.DEMAND_RISING)


def _grow(draft: Draft, reason: Reason) -> None:
    """Add replicas now: next to what runs if that is enough and not too dear, else in another mix."""
    draft.searched = True
    solution = whole(draft) or best_left(draft)
    given_up = draft.given is not Given.NOTHING
    if solution is None or (given_up and _no_better(draft, solution)):
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
    draft.moved_s, draft.load_ref = draft.time_s, 0.0  # reconsider once the window has passed: a mix may be cheaper


def _regret_of_a_rise(draft: Draft, fleet: Fleet) -> Regret:
    """The regret after the plan has followed a rise in demand to this fleet; a cheaper fleet counts as a shrink."""
    if draft.model.cost(fleet) < draft.model.cost(draft.current):
        return regret.shrunk(draft.regret, draft.time_s)
    seen = Regret(load=draft.load, needed=draft.demand.shown_rps, fleet=draft.current)
    return regret.grown(draft.regret, seen, draft.time_s)


def _no_better(draft: Draft, solution: Solution) -> bool:
    """Whether a plan that gives something up gains too little over the current one, or shrinks too early."""
    if not draft.limits.hold(draft.model, draft.current):
        return False
    if solution.fleet == draft.current:
        return solution.given is draft.given
    grows, shrinks = adds_to(solution.fleet, draft.current), adds_to(draft.current, solution.fleet)
    if grows and solution.given is not draft.given:
        return False
    now = draft.profile_of(draft.current).attainment(draft.demand)
    then = draft.profile_of(solution.fleet).attainment(draft.demand)
    if grows and then > now + (EXCHANGE_STEP if shrinks else min(ATTAINMENT_STEP, ATTAINMENT_STEP_SHARE * now)):
        # One exchange at a time: the effect of the last one is only known when its replicas serve.
        return shrinks and any(a.healthy for a in draft.arrivals)
    return not (_cheaper(draft, solution) and _may_shrink(draft) and _as_good(draft, solution.fleet))


def _cheaper(draft: Draft, solution: Solution) -> bool:
    """Whether a plan saves enough money, or costs the same and uses fewer accelerators without a price."""
    model, cost = draft.model, draft.model.cost(draft.current)
    if cheaper(solution.objective, cost):
        return True
    usd = model.usd_per_hour(draft.current)
    return abs(model.usd_per_hour(solution.fleet) - usd) < DUST and solution.objective < cost - DUST


def _regretted(draft: Draft, fleet: Fleet) -> bool:
    """Whether a fleet is no more expensive than the one that recently proved too small."""
    cost, small = draft.model.cost, draft.regret.fleet
    return bool(small) and cost(fleet) <= cost(small) + DUST


def _as_good(draft: Draft, fleet: Fleet) -> bool:
    """Whether a fleet does as well as the current one at the highest load of the window, too."""
    if _regretted(draft, fleet):
        return False
    demand = _demand_held(draft)
    now = draft.profile_of(draft.current).attainment(demand)
    return draft.profile_of(fleet).attainment(demand) >= now - min(ATTAINMENT_STEP, ATTAINMENT_STEP_SHARE * now) / 2


def cheaper(usd: float, before_usd: float) -> bool:
    """Whether a price saves enough over another one to be worth a move, $/h."""
    return usd < before_usd * (1 - SAVING_SHARE) - DUST


def may_move(draft: Draft, fleet: Fleet, before: Fleet) -> bool:
    """Whether a cheaper fleet may take the place of another one now: it does as well at the highest load."""
    if not _may_shrink(draft) or _regretted(draft, fleet):
        return False
    demand = _demand_held(draft)
    then, now = [draft.profile_of(each).attainment(demand) for each in (fleet, before)]
    return then >= min(now, draft.asked) - DUST


def _demand_held(draft: Draft) -> Scenarios:
    """The demand that a smaller fleet must carry."""
    highest_rps = draft.peak / window.unit_usd(draft.model)
    return draft.demand.at_least(highest_rps).showing(draft.regret.needed)


def _reconsider(draft: Draft) -> None:
    """Switch to another fleet if it is cheaper, or gives up less, at the highest load of the window."""
    if not _may_shrink(draft):
        return
    draft.searched = True
    _settle(draft)
    goal = draft.goal(_demand_held(draft))
    if draft.given is Given.NOTHING and _lacks_quality(draft, draft.current, goal):
        draft.given = Given.QUALITY  # the user raised the minimum, or the load moves more traffic to a lower tier
    worth_usd = draft.model.cost(draft.current) * (1 - SAVING_SHARE) - DUST
    if draft.given is Given.NOTHING and nothing_cheaper(draft.model, draft.limits, goal, below_usd=worth_usd):
        return
    solution = solve(draft.model, draft.limits, goal)
    better = _gives_up_less(draft, solution, goal)
    useful = (better or _cheaper(draft, solution)) and not _regretted(draft, solution.fleet)
    within = draft.limits if better else _beside_others(draft)  # to save money alone, it must fit next to others
    if solution.given > draft.given or not useful or not _reachable(draft, solution.fleet, within):
        if better and solution.fleet == draft.current:
            draft.given = solution.given
        return
    if adds_to(solution.fleet, draft.current):
        seen = Regret(load=draft.load, needed=draft.demand.shown_rps)
        draft.regret = regret.exchanged(draft.regret, seen, draft.current, solution.fleet, draft.time_s)
        draft.reason, draft.moved_s = Reason.TIER_SWITCH, draft.time_s
    else:
        draft.regret = regret.shrunk(draft.regret, draft.time_s)
        draft.reason = Reason.DEMAND_FALLING
    draft.ideal, draft.given = solution.fleet, solution.given
    draft.shown_ref = draft.demand.shown_rps


def _lacks_quality(draft: Draft, fleet: Fleet, goal: Goal) -> bool:
    used = [tier.quality for tier, n in zip(draft.spec.tiers, fleet, strict=True) if n]
    return min(used, default=1.0) < goal.quality and _quality(draft, fleet, goal) < goal.quality - QUALITY_DOUBT


def _quality(draft: Draft, fleet: Fleet, goal: Goal) -> float:
    return float(mean_quality(draft.model, np.array([fleet]), goal.demand.mean_rps)[0])


def _gives_up_less(draft: Draft, solution: Solution, goal: Goal) -> bool:
    """Whether a plan gives up less than the current one: another kind, or less of the average quality."""
    if solution.given is not Given.QUALITY or draft.given is not Given.QUALITY:
        return solution.given < draft.given
    return _quality(draft, solution.fleet, goal) > _quality(draft, draft.current, goal) + QUALITY_STEP


def _may_shrink(draft: Draft) -> bool:
    """Whether a whole window was observed without a gap and has passed since the last growth; not while load rises."""
    since, length = draft.watched_since_s, draft.spec.scale_down_window_s
    if draft.sight is not Sight.ALL or since is None or draft.rising:
        return False
    if starting_lately(draft):
        return False
    return draft.time_s - max(since, draft.moved_s) >= length - DUST


def _reachable(draft: Draft, fleet: Fleet, limits: Limits) -> bool:
    """Whether make-before-break has a first step towards a fleet within these limits."""
    if fleet == draft.counted:
        return True
    step = advance(draft.model, limits, arrivals=draft.arrivals, target=fleet, carries=Carries(draft, fleet))
    return step != draft.counted


def _beside_others(draft: Draft) -> Limits:
    """The limits, without the accelerators that replicas of other deployments hold."""
    used = classes_used(draft, draft.holding)
    room = {n: min(most, used.get(n, 0) + draft.spare.get(n, most)) for n, most in draft.limits.room.items()}
    return replace(draft.limits, room=room)


class Carries:
    """Whether ready replicas serve the current load as well as the target would, so that the others may be removed."""

    def __init__(self, draft: Draft, target: Fleet) -> None:
        self.draft, self.demand = draft, draft.demand_at(0.0)
        reached = draft.curve_of(target).attainment(self.demand)
        self.asked = min(draft.asked, reached) - DUST

    def __call__(self, fleet: Fleet) -> bool:
        return self.draft.curve_of(fleet).attainment(self.demand) >= self.asked


def _fewer_would_do(draft: Draft) -> bool:
    """Whether one replica less would be enough for the current load, though not for that of the window."""
    if _highest(draft) <= draft.load * (1 + LOAD_BAND):
        return False
    largest = max(range(len(draft.current)), key=lambda i: draft.current[i])
    fewer = with_more(draft.current, largest, -1)
    if sum(fewer) < draft.limits.total[0] or fewer[largest] < draft.limits.tiers[largest][0]:
        return False
    return draft.profile_of(fewer).attainment(draft.demand) >= draft.asked
