"""
What to plan for if no tier meets the targets, not even when idle.

In:    one idle replica of each tier, and the targets.
Out:   targets that the tier which comes closest meets under a third of the load that it can sustain.

Without this all fleets would miss alike, whether they are overloaded or not. As long as at least half of the requests
to an idle replica meet the targets, fleets can be told apart, and the targets stay.
"""

from collections.abc import Sequence
from math import ceil, exp, log

from tidegate.domain.estimate import Relaxed
from tidegate.domain.spec import Slo
from tidegate.estimate.capacity import targets_at
from tidegate.estimate.service import Service

# If at least this share of the requests to an idle replica meets the targets, these stay.
KEPT_SHARE = 0.5
# Shares of the sustainable load: almost none, and the load planned for. With the latency of an idle replica as the
# target, each replica would serve one request at a time, and no budget would be enough.
IDLE, LOADED = 0.001, 1 / 3
# Targets are rounded up to steps: smaller changes are noise, and each would need new curves.
STEP = log(1.05)


def relaxed(idle: Sequence[tuple[Service, float, float]], slo: Slo) -> Relaxed | None:
    """
    The targets to plan for instead of those of the spec; None if those can be used.

    Args:
        idle: For each tier that may serve, at least one: the replica, the learned factor on its misses, and the share
            of its requests that meet the targets when it is almost idle.
        slo: The targets of the spec.
    """
    attainment = max(share for _, _, share in idle)
    if attainment >= min(KEPT_SHARE, slo.attainment):
        return None
    promised = slo.attainment
    needs = [(targets_at(s, IDLE, target=promised, misses=misses), s, misses) for s, misses, _ in idle]
    (ttft_s, itl_s), service, misses = min(needs, key=lambda n: max(n[0][0] / slo.ttft_s, n[0][1] / slo.itl_s))
    loaded_ttft_s, loaded_itl_s = targets_at(service, LOADED, target=promised, misses=misses)
    return Relaxed(
        ttft_s=slo.ttft_s if loaded_ttft_s <= slo.ttft_s else _stepped(loaded_ttft_s),
        itl_s=slo.itl_s if loaded_itl_s <= slo.itl_s else _stepped(loaded_itl_s),
        idle_ttft_s=ttft_s,
        idle_itl_s=itl_s,
        attainment=attainment,
    )


def _stepped(seconds: float) -> float:
    return exp(ceil(log(seconds) / STEP) * STEP)
