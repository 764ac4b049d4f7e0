"""
The cluster around the replicas: it scales, starts, drains and kills pods, and records what is billed.

In:    a scenario; `want` once per tick; `advance` in time order.
Out:   the engine's requests, all pods (for billing), and which replicas are ready, starting or draining.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from tidegate.domain.key import Key
from tidegate.sim.engine.fleet import Fleet
from tidegate.sim.engine.state import BUSY_JOULES, BUSY_S
from tidegate.sim.pods import HOLDING, Life, Market, Pod, first_to_go, held, startup_s
from tidegate.sim.scenario import NOTICE_S, Fault, Scenario, TierTruth, Trouble

TierKey = tuple[Key, str]

# vLLM's bucket edges (time_to_first_token_seconds, inter_token_latency_seconds), s. The targets are added as edges.
TTFT_EDGES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
              20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)  # fmt: skip
ITL_EDGES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
             20.0, 40.0, 80.0)  # fmt: skip

# Delay between a decision and the pods it creates, s: one API round trip and one ReplicaSet sync.
ACTUATION_S = 1.0


class World:
    """The cluster of one run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.tiers: list[TierKey] = [(s.spec.key, t.name) for s in scenario.services for t in s.spec.tiers]
        self.truths: list[TierTruth] = [s.truths[t.name] for s in scenario.services for t in s.spec.tiers]
        self.market = Market(pools=scenario.pools, faults=scenario.faults)
        self.pods: list[Pod] = []
        self.live: list[Pod] = []
        self.wanted: dict[TierKey, int] = dict.fromkeys(self.tiers, 0)
        self.last_startup_s: dict[TierKey, float] = {}
        self.actions = 0
        self.failed_pods = 0
        self.end_s = scenario.duration_s
        self.joules = 0.0
        self._joules_gone = 0.0
        self._rng = np.random.default_rng(scenario.seed)
        slos = [s.spec.slo for s in scenario.services]
        self.fleet = Fleet(
            [s.traffic.window(start_s=0.0, end_s=scenario.duration_s) for s in scenario.services],
            [t.server for t in self.truths],
            ttft_edges=sorted({*TTFT_EDGES, *(s.ttft_s for s in slos)}),
            gap_edges=sorted({*ITL_EDGES, *(s.itl_s for s in slos)}),
            random_router=scenario.random_router,
            seed=scenario.seed,
        )
        self._edges = sorted({e for f in scenario.faults for e in (f.start_s, f.end_s)})
        for service in scenario.services:
            for name, count in service.initial.items():
                self.wanted[service.spec.key, name] = count
        self._reconcile(startup=False)

    @property
    def time_s(self) -> float:
        """Seconds since the run began."""
        return self.fleet.time_s

    def want(self, replicas: Mapping[TierKey, int]) -> None:
        """Set replica counts; tiers that are not named keep theirs. Each tier that changes counts as one action."""
        for tier, count in replicas.items():
            if self.wanted[tier] != count:
                self.actions += 1
                self.wanted[tier] = count
        self._reconcile()

    def advance(self, until_s: float) -> None:
        """Simulate up to a time, event by event."""
        while True:
            next_s = min([until_s, *self._events(until_s)])
            self.fleet.advance(next_s)
            self._happen(next_s)
            if next_s >= until_s:
                return

    def of(self, tier: TierKey, *lives: Life) -> list[Pod]:
        """Live pods of a tier in any of the given stages."""
        index = self.tiers.index(tier)
        return [p for p in self.live if p.tier == index and p.life in lives]

    def usd_per_hour(self) -> float:
        """Cost of all accelerators in use now, $/h."""
        held_now = [p for p in self.live if p.life in HOLDING]
        return sum(self.market.price_usd(p.accelerator, self.time_s) * p.accelerators for p in held_now)

    def finish(self, after_s: float) -> None:
        """End billing now, then let the replicas serve for another `after_s` without scaling."""
        self.end_s = self.time_s
        self.joules = sum(self._joules(p) for p in self.live) + self._joules_gone
        self.fleet.advance(self.time_s + after_s)

    def _joules(self, pod: Pod) -> float:
        """Energy of a pod since it was placed, J: as the engine counted it while busy, idle draw otherwise."""
        if pod.placed_s > self.time_s:
            return 0.0
        idle_w = self.truths[pod.tier].server.watts_idle
        held_s = min(pod.gone_s, self.time_s) - pod.placed_s
        if pod.slot < 0:
            return idle_w * held_s
        counters = self.fleet.state.slots.counters[pod.slot]
        return float(counters[BUSY_JOULES] + idle_w * max(0.0, held_s - counters[BUSY_S]))

    def _events(self, until_s: float) -> Iterator[float]:
        for pod in self.live:
            if pod.life is Life.STARTING and self.time_s < pod.ready_s < until_s:
                yield pod.ready_s
            if pod.life is Life.DRAINING and self.time_s < pod.deadline_s < until_s:
                yield pod.deadline_s
        for edge in self._edges:
            if self.time_s < edge < until_s:
                yield edge
                return

    def _happen(self, now_s: float) -> None:
        for fault in self.scenario.faults:
            self._strike(fault, now_s)
        for pod in list(self.live):
            if pod.life is Life.STARTING and pod.ready_s <= now_s:
                self._open(pod)
            elif pod.life is Life.DRAINING and (self.fleet.load(pod.slot) == 0 or pod.deadline_s <= now_s):
                self._close(pod)
        self._reconcile()

    def _strike(self, fault: Fault, now_s: float) -> None:
        notice = NOTICE_S if fault.trouble is Trouble.SPOT_RECLAIM else 0.0
        if fault.trouble not in (Trouble.LOST_NODES, Trouble.SPOT_RECLAIM) or fault.start_s != now_s:
            return
        limit = self.market.capacity(fault.target, now_s)
        over = held(self.live, fault.target) - (limit if limit is not None else 0)
        victims = [p for p in self.live if p.accelerator == fault.target and p.life in HOLDING]
        gone = min(over, int(fault.amount)) if limit is not None else int(fault.amount)
        for index in self._rng.permutation(len(victims)):
            if gone <= 0:
                return
            gone -= victims[index].accelerators
            self.failed_pods += 1
            self._drain(victims[index], deadline_s=now_s + notice)

    def _reconcile(self, *, startup: bool = True) -> None:
        for tier, count in self.wanted.items():
            live = self.of(tier, Life.PENDING, Life.STARTING, Life.READY)
            for _ in range(count - len(live)):
                self._create(tier)
            load = {p.number: self.fleet.load(p.slot) for p in live if p.slot >= 0}
            for pod in first_to_go(live, load)[: max(0, len(live) - count)]:
                self._drain(pod, deadline_s=self.time_s + self.scenario.drain_s)
        for pod in [p for p in self.live if p.life is Life.PENDING]:
            self._place(pod, startup=startup)

    def _create(self, tier: TierKey) -> None:
        index = self.tiers.index(tier)
        spec = self.scenario.service(tier[0]).spec.tier(tier[1])
        pod = Pod(
            number=len(self.pods),
            service=[s.spec.key for s in self.scenario.services].index(tier[0]),
            tier=index,
            accelerator=spec.accelerator,
            accelerators=spec.accelerators_per_replica,
            created_s=self.time_s,
        )
        self.pods.append(pod)
        self.live.append(pod)

    def _place(self, pod: Pod, *, startup: bool) -> None:
        limit = self.market.capacity(pod.accelerator, self.time_s)
        used = held(self.live, pod.accelerator)
        if limit is not None and used + pod.accelerators > limit:
            return
        pod.life = Life.STARTING
        pod.placed_s = self.time_s
        if not startup:
            pod.ready_s = self.time_s
            self._open(pod)
            return
        pool = self.scenario.pools[pod.accelerator]
        node_s = pool.provision_s if pool.warm is not None and used + pod.accelerators > pool.warm else 0.0
        factor, begins_s = self.scenario.hindrance(*self.tiers[pod.tier], self.time_s)
        took = startup_s(self.truths[pod.tier].startup, factor=factor, rng=self._rng)
        pod.ready_s = begins_s + ACTUATION_S + node_s + took

    def _open(self, pod: Pod) -> None:
        pod.life = Life.READY
        pod.slot = self.fleet.open(deployment=pod.service, tier=pod.tier)
        if pod.ready_s > pod.created_s:
            self.last_startup_s[self.tiers[pod.tier]] = pod.ready_s - pod.placed_s

    def _drain(self, pod: Pod, *, deadline_s: float) -> None:
        if pod.slot < 0 or self.fleet.load(pod.slot) == 0 or deadline_s <= self.time_s:
            self._close(pod)
            return
        pod.life = Life.DRAINING
        pod.deadline_s = min(pod.deadline_s, deadline_s)
        self.fleet.drain(pod.slot)

    def _close(self, pod: Pod) -> None:
        self._joules_gone += self._joules(pod)
        if pod.slot >= 0:
            self.fleet.close(pod.slot)
        pod.life = Life.GONE
        pod.gone_s = self.time_s
        self.live.remove(pod)
