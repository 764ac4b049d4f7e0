"""
NVIDIA Dynamo's SLA planner for aggregated workers.

Source: wheel ai-dynamo 1.6.1, `dynamo/planner/core/{throughput_scaling,load_scaling}.py`, `core/perf_model/`.
"""

from math import ceil

from tidegate.domain.law import Workload
from tidegate.sim.policies.base import Choice, TierKey, View, bounds, chosen_tiers, held, others_at_minimum
from tidegate.sim.scenario import Scenario


class Dynamo:
    """
    Predicted requests of the next 180 s, divided by the rate of one engine at the best batch within the latency
    targets.

    engine rate = max over N of N / (osl * ITL(N)), with mean ITL(N) and prefill time within the targets; no headroom,
    no queueing. The count changes by at most 8 per interval. Without requests there is no mean length; since 1.6.1 that
    counts as idle, and one engine remains.
    Simplifications: it is given the true performance law (a perfect profile); the prediction is the last interval plus
    half of its change, in place of ARIMA without a season, refitted each interval; the load loop is off, as shipped; if
    no batch meets the targets it sizes for N = 1.

    Args:
        headroom: Factor on the demand, 1 as shipped; the knob.
    """

    KNOB = ("headroom", (1.0, 1.15, 1.3, 1.45, 1.6, 2.0))
    INTERVAL_S, STEP_MAX, BATCHES = 180.0, 8, 128

    def __init__(self, scenario: Scenario, tier: str, *, headroom: float = 1.0) -> None:
        self.name = f"dynamo@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._headroom = headroom
        self._laws = {t: scenario.service(t[0]).truths[t[1]].server.law for t in self._tiers}
        self._arrivals: dict[TierKey, list[float]] = {t: [] for t in self._tiers}
        self._past: dict[TierKey, list[float]] = {t: [] for t in self._tiers}
        self._due_s = 0.0

    def decide(self, view: View) -> Choice:
        """Collect arrival rates; decide at the end of each interval."""
        for tier in self._tiers:
            reading = view.reading(tier)
            if reading is not None and reading.arrival_rps is not None:
                self._arrivals[tier].append(reading.arrival_rps)
        if self._due_s == 0.0:
            self._due_s = view.time_s + self.INTERVAL_S
        if view.time_s < self._due_s:
            wish = {t: view.wanted[t] for t in self._tiers}
        else:
            self._due_s += self.INTERVAL_S
            wish = {t: self._one(view, t) for t in self._tiers}
        kept = {t: held(view, t, count) for t, count in wish.items()}
        return Choice(replicas=others_at_minimum(view, self._tiers, kept))

    def _one(self, view: View, tier: TierKey) -> int:
        current = view.wanted[tier]
        low, high = bounds(view, tier)
        seen, self._arrivals[tier] = self._arrivals[tier], []
        reading = view.reading(tier)
        if current == 0:
            return max(low, 1 if view.queued(tier[0]) > 0 else 0)
        if not seen or reading is None or view.state(tier).ready < current:
            return current  # it holds while replicas are starting or metrics are missing
        self._past[tier].append(sum(seen) / len(seen))
        prompt, output = reading.prompt_tokens_mean, reading.output_tokens_mean
        if prompt and output:
            wish = ceil(self._demand_rps(tier) / self._engine_rps(view, tier, prompt, output))
        else:
            wish = current if seen[-1] > 0 else 1  # requests arrive but none has finished; or idle
        wish = max(current - self.STEP_MAX, min(current + self.STEP_MAX, wish))
        return max(low, 1, min(high, wish))

    def _demand_rps(self, tier: TierKey) -> float:
        past = self._past[tier]
        trend = 0.5 * (past[-1] - past[-2]) if len(past) > 1 else 0.0
        return max(0.0, past[-1] + trend) * self._headroom

    def _engine_rps(self, view: View, tier: TierKey, prompt: float, output: float) -> float:
        law, slo = self._laws[tier], view.spec(tier).slo
        workload = Workload(prompt_tokens=prompt, output_tokens=output)
        if law.prefill_s(workload) > slo.ttft_s:
            return 1.0 / (output * law.itl_s(1.0, workload))
        best = 1.0 / (output * law.itl_s(1.0, workload))
        most = law.running_limit(workload)
        for step in range(1, self.BATCHES + 1):
            running = most * step / self.BATCHES
            itl = law.itl_s(running, workload)
            if running >= 1 and itl <= slo.itl_s:
                best = max(best, running / (output * itl))
        return best
