"""
What to plan for where the targets are out of reach: no tier meets them, not even idle.

In:    one idle replica of each tier, and the targets.
Out:   targets that the tier which comes closest meets under a third of the load that it can sustain.

Without it every fleet misses alike, and the one that drowns looks as good as the one that serves. As long as an idle
replica still keeps half of the promise there is something to tell them apart by, and the targets stay.
"""

from collections.abc import Sequence
from math import ceil, exp, log

from tidegate.domain.estimate import Relaxed
from tidegate.domain.spec import Slo
from tidegate.estimate.capacity import targets_at
from tidegate.estimate.service import Service

# Idle replicas that keep at least this share of requests inside the targets are planned with as they are.
KEPT_SHARE = 0.5
# Shares of the load that a replica can sustain: hardly any, and what it is planned to have. At the targets of an idle
# replica each would serve one request at a time, and all money would not be enough.
IDLE, LOADED = 0.001, 1 / 3
# Targets move in steps, upwards: less is noise, and each would be another curve.
STEP = log(1.05)


def relaxed(idle: Sequence[tuple[Service, float, float]], slo: Slo) -> Relaxed | None:
    """
    The targets instead of those asked for; None where those can be planned with.

    Args:
        idle: Of each tier that may serve: the replica, the learned factor on its misses, and the share of its requests
            inside the targets where it is almost idle; at least one.
        slo: What was asked for.
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
