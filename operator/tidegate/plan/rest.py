"""
When not to plan: paused, blind, asleep.

Silence never shrinks anything: while metrics are missing the plan in force stands, and what runs stays. Zero replicas
need proof that nobody asks, and one sign of a request ends them.
"""

from dataclasses import replace

from tidegate.domain.decision import Reason
from tidegate.plan import window
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet
from tidegate.plan.limits import at_least, carried
from tidegate.plan.pursue import pursue
from tidegate.plan.sight import Sight
from tidegate.plan.solve import Given, solve

# After so long without metrics the last good plan is set again, whatever got lost meanwhile.
FALLBACK_S = 300.0


def decide(draft: Draft) -> None:
    """Set the ideal fleet and the reason, by the first of these that applies."""
    _carry_over(draft)
    if draft.spec.left_alone:
        draft.reason = Reason.PAUSED if draft.spec.paused else Reason.MODE_OFF
        draft.ideal = draft.target = draft.counted
        draft.watched_since_s = None  # what comes meanwhile is not remembered
    elif _asleep(draft) or _idle(draft):
        _sleep(draft)
    else:
        draft.asleep = False
        if draft.sight is Sight.NONE:
            _hold(draft)
        else:
            pursue(draft)


def _carry_over(draft: Draft) -> None:
    """Loads in the prices and tiers of now; a window that cannot be continued starts afresh."""
    before = draft.problem.memory
    if before is None or draft.memory is None:
        return
    if draft.time_s - before.time_s > window.GAP_S:
        draft.watched_since_s = None
    if before.window_s not in (None, draft.spec.scale_down_window_s):
        draft.watched_since_s, draft.peaks = None, ()  # the slots of another window are other times
    factor = window.repriced(draft.model, before)
    if factor != 1.0:
        draft.peaks = tuple([(slot, load * factor) for slot, load in draft.peaks])
        draft.load_ref *= factor
        draft.regret = replace(draft.regret, load=draft.regret.load * factor)


def _hold(draft: Draft) -> None:
    """
    The plan in force, and at least what runs; a fallback to the last good plan after `FALLBACK_S`.

    Bounds that changed meanwhile are obeyed: they are the user's word, not silence. As much of what runs stays as they
    hold.
    """
    draft.watched_since_s = None
    draft.held = _held(draft)
    blind = draft.fresh_s is None or draft.time_s - draft.fresh_s >= FALLBACK_S
    draft.reason = Reason.FALLBACK if blind and draft.memory is not None else Reason.METRICS_MISSING
    wanted: Fleet = tuple(map(max, draft.current, draft.counted))
    if draft.limits.hold(draft.model, wanted):
        draft.ideal = wanted
    elif draft.limits.hold(draft.model, draft.current):
        # In the middle of an exchange that has no room for old and new together: it waits for metrics.
        if draft.limits.hold(draft.model, draft.counted):
            draft.ideal = draft.counted
    else:
        kept = carried(at_least(draft.limits, wanted), draft.model)
        solution = solve(draft.model, kept, draft.goal(draft.demand))
        if not draft.limits.hold(draft.model, solution.fleet):
            free = solve(draft.model, draft.limits, draft.goal(draft.demand))
            # Where no fleet keeps the lower bounds, those are no reason to exchange what serves.
            if draft.limits.hold(draft.model, free.fleet):
                solution = free
        draft.ideal, draft.given, draft.searched = solution.fleet, solution.given, True


def _held(draft: Draft) -> Fleet:
    """What nobody may take of it: all that there is, or the plan in force where that only adds to it."""
    growing = all(n >= now for n, now in zip(draft.target, draft.there, strict=True))
    return draft.target if growing else draft.there


def _called(draft: Draft) -> bool:
    """Whether somebody waits."""
    gateway = draft.problem.gateway
    at_gateway = gateway is not None and (gateway.queued > 0 or (gateway.arrival_rps or 0.0) > 0)
    return at_gateway or draft.problem.forecast.queued > 0


def _asleep(draft: Draft) -> bool:
    """
    At zero because nobody asked, allowed to be there, and not called.

    A zero that a limit or a hand forced is no sleep. Without a gateway nobody could call: then the first plan wakes.
    """
    if draft.limits.pinned or draft.limits.idle > 0 or any(draft.there) or _called(draft):
        return False
    if draft.memory is None:
        return draft.problem.gateway is not None
    return draft.memory.asleep


def _idle(draft: Draft) -> bool:
    """Proof that nobody asked for long enough: metrics of all tiers, no load, no queue, a silent gateway."""
    zero, expected = draft.spec.scale_to_zero, draft.problem.forecast
    if zero is None or draft.limits.pinned or draft.limits.idle > 0 or draft.sight is not Sight.ALL:
        return False
    return expected.idle_s >= zero.idle_s and expected.now_rps <= 0 and not _called(draft)


def _sleep(draft: Draft) -> None:
    draft.ideal, draft.given = tuple([low for low, _ in draft.limits.tiers]), Given.NOTHING
    draft.asleep = not any(draft.ideal)
    draft.reason = Reason.SCALED_TO_ZERO
    draft.watched_since_s, draft.load_ref = None, 0.0
    draft.peaks = ()
    if draft.sight is Sight.ALL:
        draft.fresh_s = draft.time_s
