"""
When not to plan: paused, without metrics, or scaled to zero.

Missing metrics never shrink anything: meanwhile the plan in force is held, and what runs stays. It grows only to what
the hour usually needs. Scaling to zero needs proof that there are no requests, and one sign of a request ends it.
"""

from dataclasses import replace

from tidegate.domain.decision import Reason
from tidegate.plan import window
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet, adds_to
from tidegate.plan.limits import at_least, carried
from tidegate.plan.pursue import pursue
from tidegate.plan.sight import Sight
from tidegate.plan.solve import Given, solve
from tidegate.plan.transition import inside

# After this long without metrics the last good plan is restored.
FALLBACK_S = 300.0


def decide(draft: Draft) -> None:
    """Set the ideal fleet and the reason, by the first of these that applies."""
    _carry_over(draft)
    if draft.sight in (Sight.ALL, Sight.NOTHING_RUNS):
        draft.fresh_s = draft.time_s
    if draft.spec.left_alone:
        draft.reason = Reason.PAUSED if draft.spec.paused else Reason.MODE_OFF
        draft.ideal = draft.target = draft.counted
        draft.watched_since_s = None  # the load is not recorded meanwhile
    elif _asleep(draft) or _idle(draft):
        _sleep(draft)
    else:
        draft.asleep = False
        if draft.sight is Sight.NONE:
            _hold(draft)
        else:
            pursue(draft)


def _carry_over(draft: Draft) -> None:
    """Rescale remembered loads to the current prices and tiers; a window that cannot be continued starts afresh."""
    before = draft.problem.memory
    if before is None or draft.memory is None:
        return
    if draft.time_s - before.time_s > window.GAP_S:
        draft.watched_since_s = None
        _adopt(draft)
    if before.window_s not in (None, draft.spec.scale_down_window_s):
        draft.watched_since_s, draft.peaks = None, ()  # slots of a window of another length are other times
    factor = window.repriced(draft.model, before)
    if factor != 1.0:
        draft.peaks = tuple([(slot, load * factor) for slot, load in draft.peaks])
        draft.load_ref *= factor
        draft.regret = replace(draft.regret, load=draft.regret.load * factor)


def _adopt(draft: Draft) -> None:
    """
    After a gap the plan is at least what runs, as far as the limits allow.

    A process that crashed had no time to save its last growth, and while none ran, people may have scaled by hand.
    """
    there = inside(draft.model, draft.limits, kept=draft.counted, staying=draft.current)
    if there != draft.current:
        draft.current = draft.ideal = there
        draft.load_ref = 0.0


def _hold(draft: Draft) -> None:
    """
    Hold the plan in force, with at least what runs; after `FALLBACK_S` restore the last good plan, or more if the load
    is usually higher at this hour.

    Limits that change meanwhile apply, because the user set them. As much of what runs stays as they allow.
    """
    draft.watched_since_s = None
    draft.held = _held(draft)
    # If they were never complete, the wait began with the first plan.
    since_s = draft.moved_s if draft.fresh_s is None else draft.fresh_s
    draft.reason = Reason.FALLBACK if draft.time_s - since_s >= FALLBACK_S else Reason.METRICS_MISSING
    wanted = _in_force(draft)
    if draft.limits.hold(draft.model, wanted):
        draft.ideal = wanted
    elif draft.limits.hold(draft.model, draft.current):
        # An exchange is under way and there is no room for old and new together: it waits for metrics.
        if draft.limits.hold(draft.model, draft.counted):
            draft.ideal = draft.counted
    else:
        kept = carried(at_least(draft.limits, wanted), draft.model)
        solution = solve(draft.model, kept, draft.goal(draft.demand))
        if not draft.limits.hold(draft.model, solution.fleet):
            free = solve(draft.model, draft.limits, draft.goal(draft.demand))
            # If no fleet meets the lower bounds, they are no reason to exchange what serves.
            if draft.limits.hold(draft.model, free.fleet):
                solution = free
        draft.ideal, draft.given, draft.searched = solution.fleet, solution.given, True
    if draft.reason is Reason.FALLBACK:
        _grow_as_usual(draft)


def _in_force(draft: Draft) -> Fleet:
    """The plan in force, with replicas in place of the lost ones, and at least what runs."""
    planned = draft.memory.ideal if draft.memory is not None else draft.counted
    tiers = zip(draft.current, planned, draft.arrivals, strict=True)
    return tuple([max(n, a.counted, min(was, a.counted + a.lost)) for n, was, a in tiers])


def _grow_as_usual(draft: Draft) -> None:
    """Add what the usual load at this hour needs: a night's fleet would not carry the day that follows it."""
    known, usual = draft.demand, draft.problem.forecast.usual_rps
    draft.demand = known if usual is None else known.at_least(usual)
    if draft.demand is known or draft.profile_of(draft.ideal).attainment(draft.demand) >= draft.asked:
        return
    kept = at_least(draft.limits, draft.ideal)
    fleet = solve(draft.model, kept, draft.goal(draft.demand)).fleet
    if kept.hold(draft.model, fleet):
        draft.ideal = fleet


def _held(draft: Draft) -> Fleet:
    """The replicas that no other deployment may take: all that exist, or the target if that only adds to them."""
    return draft.holding if adds_to(draft.holding, draft.target) else draft.target


def _request_waiting(draft: Draft) -> bool:
    """Whether a request is waiting anywhere, or arrives at the gateway."""
    gateway = draft.problem.gateway
    at_gateway = gateway is not None and (gateway.queued > 0 or (gateway.arrival_rps or 0.0) > 0)
    return at_gateway or draft.problem.forecast.queued > 0


def _asleep(draft: Draft) -> bool:
    """
    Whether the deployment is scaled to zero because it is idle, may stay there, and no request arrives.

    A zero that was forced by a limit or a pin does not count. Without a memory, zero replicas count as asleep only if
    there is a gateway, since otherwise no request could be noticed.
    """
    if draft.limits.pinned or draft.limits.idle > 0 or any(draft.there) or _request_waiting(draft):
        return False
    if draft.memory is None:
        return draft.problem.gateway is not None
    return draft.memory.asleep


def _idle(draft: Draft) -> bool:
    """Whether it is proven idle for long enough: metrics of all tiers, no load, no queue, no request at the gateway."""
    zero, expected = draft.spec.scale_to_zero, draft.problem.forecast
    if zero is None or draft.limits.pinned or draft.limits.idle > 0 or draft.sight is not Sight.ALL:
        return False
    return expected.idle_s >= zero.idle_s and expected.now_rps <= 0 and not _request_waiting(draft)


def _sleep(draft: Draft) -> None:
    draft.ideal, draft.given = tuple([low for low, _ in draft.limits.tiers]), Given.NOTHING
    draft.asleep = not any(draft.ideal)
    draft.reason = Reason.SCALED_TO_ZERO
    draft.watched_since_s, draft.load_ref = None, 0.0
    draft.peaks = ()
