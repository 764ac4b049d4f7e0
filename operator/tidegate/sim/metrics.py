"""
What Prometheus would report about the fleet: counters sampled at scrapes, rates over a window, gauges from the last
sample.

What a new pod counted before its first sample is lost; the series of a pod end with the pod; the newest sample is
some seconds old. The arrival rate is what an operator can derive: first tokens plus the growth of the queues.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from tidegate.domain.observation import (
    DeploymentObservation,
    FleetObservation,
    GatewayReading,
    Histogram,
    Missing,
    TierReading,
    TierState,
    dispersion_of,
)
from tidegate.sim.engine.state import (
    BLOCKS,
    BUSY_JOULES,
    BUSY_S,
    COMPLETED,
    GAP_SUM,
    HIT_TOKENS,
    OUTPUT_DONE,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PROMPT_DONE,
    PROMPT_TOKENS,
    TTFT_SUM,
    Floats,
)
from tidegate.sim.pods import Life, Pod
from tidegate.sim.scenario import Trouble
from tidegate.sim.world import TierKey, World

WINDOW_S = 60.0
NO_ANSWER = "PrometheusDown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One scrape of one pod. Histograms hold counts per bucket, not cumulative."""

    time_s: float
    counters: Floats
    ttft: Floats
    gap: Floats
    request_gap: Floats
    running: int
    waiting: int
    kv_usage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Gauges of one pod at its last scrape, and their maxima within the window."""

    running: int
    waiting: int
    kv_usage: float
    waiting_max: int
    kv_usage_max: float


class Scraper:
    """The Prometheus server of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._series: dict[int, deque[Sample]] = {}
        self._gateway: deque[tuple[float, Floats]] = deque()

    def scrape(self) -> None:
        """Sample every replica that is ready or draining."""
        now = self.world.time_s
        live = [p for p in self.world.live if p.slot >= 0 and p.life in (Life.READY, Life.DRAINING)]
        for pod in live:
            series = self._series.setdefault(pod.number, deque())
            series.append(self._sample(pod, now))
            while series[0].time_s < now - WINDOW_S:
                series.popleft()
        alive = {p.number for p in live}
        for number in [n for n in self._series if n not in alive]:
            del self._series[number]
        self._gateway.append((now, self.world.fleet.state.front.arrived.astype(float)))
        while self._gateway[0][0] < now - WINDOW_S:
            self._gateway.popleft()

    def observe(self) -> FleetObservation:
        """The fleet as an operator would observe it now."""
        scenario, now = self.world.scenario, self.world.time_s
        seen = {}
        for index, service in enumerate(scenario.services):
            key = service.spec.key
            silent = any(
                f.trouble is Trouble.NO_METRICS and f.active(now) and f.hits(key.name) for f in scenario.faults
            )
            tiers = {t.name: self._state((key, t.name), silent=silent) for t in service.spec.tiers}
            gateway = self._gateway_reading(index) if service.gateway and not silent else None
            seen[key] = DeploymentObservation(tiers=tiers, gateway=gateway)
        return FleetObservation(time_s=scenario.start_s + now, deployments=seen)

    def gauges(self, tier: TierKey) -> list[Gauges]:
        """Gauges of each ready pod of a tier that was scraped at least once."""
        found = [self._series.get(p.number) for p in self.world.of(tier, Life.READY)]
        return [
            Gauges(
                running=s[-1].running,
                waiting=s[-1].waiting,
                kv_usage=s[-1].kv_usage,
                waiting_max=max(x.waiting for x in s),
                kv_usage_max=max(x.kv_usage for x in s),
            )
            for s in found
            if s
        ]

    def _sample(self, pod: Pod, now_s: float) -> Sample:
        slots, slot = self.world.fleet.state.slots, pod.slot
        blocks = self.world.fleet.state.tiers.scalars[pod.tier, BLOCKS]
        return Sample(
            time_s=now_s,
            counters=slots.counters[slot].copy(),
            ttft=slots.ttft[slot].copy(),
            gap=slots.gap[slot].copy(),
            request_gap=slots.request_gap[slot].copy(),
            running=int(slots.running_count[slot]),
            waiting=int(slots.waiting_count[slot]),
            kv_usage=float(1.0 - slots.blocks_free[slot] / blocks),
        )

    def _state(self, tier: TierKey, *, silent: bool) -> TierState:
        pods = [p for p in self.world.live if self.world.tiers[p.tier] == tier]
        count = {life: sum(p.life is life for p in pods) for life in Life}
        reading = Missing(reason=NO_ANSWER) if silent else self._reading(pods)
        return TierState(
            ready=count[Life.READY],
            starting=count[Life.STARTING] + count[Life.PENDING],
            terminating=count[Life.DRAINING],
            startup_s=self.world.last_startup_s.get(tier),
            unschedulable=count[Life.PENDING],
            reading=reading if count[Life.READY] > 0 or silent else Missing(reason="NoReplicas"),
        )

    def _reading(self, pods: list[Pod]) -> TierReading | Missing:
        series = [self._series[p.number] for p in pods if p.number in self._series]
        if not series:
            return Missing(reason="NoSamples")
        rates = [r for r in (self._rates(s) for s in series) if r is not None]
        server, last = self.world.truths[pods[0].tier].server, [s[-1] for s in series]
        serving = [self._series[p.number][-1] for p in pods if p.life is Life.READY and p.number in self._series]
        base = {
            "window_s": WINDOW_S,
            "age_s": self.world.time_s - max(s.time_s for s in last),
            "running": float(sum(s.running for s in last)),
            "waiting": float(sum(s.waiting for s in last)),
            "kv_cache_usage": float(np.mean([s.kv_usage for s in last])),
            "replicas_reporting": len(last),
            "dispersion": dispersion_of([s.running + s.waiting for s in serving]),
            "kv_cache_tokens_per_replica": float(server.law.kv_cache_tokens),
        }
        if not rates:
            return TierReading(arrival_rps=None, **base)  # type: ignore[arg-type]
        return TierReading(**base, **self._flows(series, rates, server.watts_idle))  # type: ignore[arg-type]

    def _flows(self, series: list[deque[Sample]], rates: list[Sample], idle_w: float) -> dict[str, object]:
        total: Floats = np.sum([r.counters for r in rates], axis=0)
        ttft, gap, request_gap = (
            np.sum([getattr(r, n) for r in rates], axis=0) for n in ("ttft", "gap", "request_gap")
        )
        growth = sum((s[-1].waiting - s[0].waiting) / WINDOW_S for s in series)
        done, firsts, gaps = total[COMPLETED], ttft.sum(), gap.sum()
        prompts, busy = total[PROMPT_TOKENS] + total[HIT_TOKENS], total[BUSY_S] / len(rates)
        return {
            "arrival_rps": max(0.0, float(firsts + growth)),
            "completion_rps": float(done),
            "prompt_tokens_mean": _ratio(total[PROMPT_DONE], done),
            "output_tokens_mean": _ratio(total[OUTPUT_DONE], done),
            "preemption_rps": float(total[PREEMPTIONS]),
            "prefix_cache_hit_rate": _ratio(total[HIT_TOKENS], prompts),
            "ttft": self._histogram(self.world.fleet.state.front.ttft_edges, ttft),
            "itl": self._histogram(self.world.fleet.state.front.gap_edges, gap),
            "request_itl": self._histogram(self.world.fleet.state.front.gap_edges, request_gap),
            "ttft_mean_s": _ratio(total[TTFT_SUM], firsts),
            "itl_mean_s": _ratio(total[GAP_SUM], gaps),
            "gpu_utilization": float(min(1.0, busy)),
            "power_w": float(total[BUSY_JOULES] + idle_w * max(0.0, len(rates) - total[BUSY_S])),
            "output_tokens_per_s": float(total[OUTPUT_TOKENS]),
        }

    def _rates(self, series: deque[Sample]) -> Sample | None:
        """Per-second rates of one pod as `rate()` computes them; None with fewer than two samples in the window."""
        if len(series) < 2:
            return None
        first, last = series[0], series[-1]
        span = last.time_s - first.time_s
        each = span / (len(series) - 1)
        start_gap = first.time_s - (self.world.time_s - WINDOW_S)
        end_gap = self.world.time_s - last.time_s
        # Prometheus extrapolates to the edge of the window, or by half an interval if the edge is more than
        # 1.1 intervals away.
        reach = span + sum(g if g < 1.1 * each else each / 2 for g in (start_gap, end_gap))
        scale = reach / span / WINDOW_S
        return Sample(
            time_s=last.time_s,
            counters=(last.counters - first.counters) * scale,
            ttft=(last.ttft - first.ttft) * scale,
            gap=(last.gap - first.gap) * scale,
            request_gap=(last.request_gap - first.request_gap) * scale,
            running=last.running,
            waiting=last.waiting,
            kv_usage=last.kv_usage,
        )

    def _histogram(self, edges: Floats, rates: Floats) -> Histogram:
        counts = np.cumsum(rates * WINDOW_S)
        return Histogram((*(float(e) for e in edges), float("inf")), tuple(float(c) for c in counts))

    def _gateway_reading(self, index: int) -> GatewayReading | None:
        if len(self._gateway) < 2:
            return None
        (start_s, before), (end_s, after) = self._gateway[0], self._gateway[-1]
        queued = float(self.world.fleet.state.front.waiting_count[index])
        return GatewayReading(arrival_rps=float((after[index] - before[index]) / (end_s - start_s)), queued=queued)


def _ratio(above: float, below: float) -> float | None:
    return float(above / below) if below > 0 else None
