"""
llm-d's other KEDA rules: the default one, on signals of the endpoint picker, and the token-aware one.

Source: llm-d `guides/workload-autoscaling` (queue and running overlay); kubernetes HPA for the rest.
"""

from tidegate.sim.policies.base import TierKey, View, bounds, chosen_tiers
from tidegate.sim.policies.hpa import Behavior, Rule, per_pod
from tidegate.sim.policies.keda import KedaRule
from tidegate.sim.scenario import Scenario


class KedaOnEpp(KedaRule):
    """
    The larger of two triggers: queue at the endpoint picker (target 1 per replica) and running requests (target 16).

    HPA: up window 0 s and 100 % per 15 s, down window 300 s and 100 % per 15 s.
    Simplifications: the picker's queue is the gateway's queue plus the requests waiting in the servers (its flow
    control holds both in one place); no overshoot guard, as in the default overlay.

    Args:
        running: Running requests per replica; the knob.
    """

    KNOB = ("running", (8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0))
    QUEUE = 1.0

    def __init__(self, scenario: Scenario, tier: str, *, running: float = 16.0) -> None:
        self.name = f"keda-epp@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._running = running
        self._behaviors = {t: Behavior(Rule(window_s=0.0, percent=100.0)) for t in self._tiers}

    def _asked(self, view: View, tier: TierKey) -> int:
        reading, current = view.reading(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        queue = view.queued(tier[0]) + ((reading.waiting or 0.0) if reading else 0.0)
        running = (reading.running or 0.0) if reading else 0.0
        raw = max(per_pod(queue, self.QUEUE, current), per_pod(running, self._running, current), 1)
        behavior = self._behaviors[tier]
        return behavior.limit(time_s=view.time_s, current=current, raw=raw, low=max(1, low), high=high)


class TokenAwareKeda(KedaRule):
    """
    llm-d's token-aware rule: seconds of prefill in flight over 1.5, or KV use over 0.8, whichever needs more replicas.

    backlog_s = prompt tokens in flight / peak prefill rate. The rule is given the true rate; a user would measure it.
    HPA: up window 0 s and one pod per 180 s, down window 300 s and one pod per 300 s.
    Simplification: prompt tokens in flight are waiting requests times the mean prompt length.

    Args:
        backlog_s: Seconds of prefill per replica; the knob.
    """

    KNOB = ("backlog_s", (0.1, 0.25, 0.5, 1.0, 1.5, 3.0))
    KV = 0.8
    UP = Rule(window_s=0.0, percent=0.0, pods=1.0, period_s=180.0)
    DOWN = Rule(window_s=300.0, percent=0.0, pods=1.0, period_s=300.0)

    def __init__(self, scenario: Scenario, tier: str, *, backlog_s: float = 1.5) -> None:
        self.name = f"token-keda@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._backlog_s = backlog_s
        self._p1_s = {t: scenario.service(t[0]).truths[t[1]].server.law.p1_s for t in self._tiers}
        self._behaviors = {t: Behavior(self.UP, self.DOWN) for t in self._tiers}

    def _asked(self, view: View, tier: TierKey) -> int:
        reading, current = view.reading(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        if reading is None:
            return current
        waiting = view.queued(tier[0]) + (reading.waiting or 0.0)
        backlog_s = waiting * (reading.prompt_tokens_mean or 0.0) * self._p1_s[tier]
        in_use = (reading.kv_cache_usage or 0.0) * max(1, view.state(tier).ready)
        raw = max(per_pod(backlog_s, self._backlog_s, current), per_pod(in_use, self.KV, current), 1)
        behavior = self._behaviors[tier]
        return behavior.limit(time_s=view.time_s, current=current, raw=raw, low=max(1, low), high=high)
