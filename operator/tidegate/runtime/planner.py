"""
The control loop: observe, step, hand over.

In:    caches, metrics, what users want.
Out:   a `Batch` for the hands, numbers for /metrics, one log line per decision that changed.
Rules: one tick at a time, every `period_s`; earlier if a user changed something or requests wait at zero replicas, but
       never closer than `GAP_S`. `cycle.step` runs in a thread. Every replica of the operator plans, so that
       its memory is warm; only the leader's batch is carried out.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tidegate import cycle
from tidegate.actuate.ownership import rivals, taken
from tidegate.domain.decision import Decision, FleetDecision, Reason
from tidegate.domain.key import Key
from tidegate.domain.observation import FleetObservation, Missing
from tidegate.domain.spec import Accelerator, DeploymentSpec, Mode, TierSpec
from tidegate.forecast.memory import ForecastMemory
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.observe.cluster import Cluster, Sight
from tidegate.observe.collect import Collector
from tidegate.observe.decode import Samples
from tidegate.observe.threads import in_thread
from tidegate.ports import DeploymentResource, Fence
from tidegate.report.currency import currency_of, in_currency
from tidegate.report.metrics import Metrics, Tick
from tidegate.runtime.coretime import CoreTime
from tidegate.runtime.hands import Batch, Hands
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.policy import policy_of, without

log = logging.getLogger(__name__)

# Minimum time between the starts of two ticks.
GAP_S = 5.0
# Changes come in batches (kubectl apply -f folder/): wait for the end of one.
DEBOUNCE_S = 0.5
# Interval of the activation queries between two ticks, for deployments at zero replicas.
ACTIVATION_S = 5.0
# A cache that was not confirmed for longer is cut off from the API server. Where a proxy ends each watch shortly before
# 70 s, and so before a bookmark, a list confirms it after 140 s.
UNSEEN_S = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The planner's collaborators."""

    inventory: FleetInventory
    cluster: Cluster
    collector: Collector
    hands: Hands
    metrics: Metrics
    fence: Fence


@dataclass(slots=True, kw_only=True)
class Planner:
    """
    The loop.

    Args:
        parts: Its collaborators.
        period_s: Seconds between two ticks.
        wall: Unix seconds.
        clock: Monotonic seconds.
        memory: What the core remembers.
        uids: By key, the objects that the memory belongs to: those of the last tick.
    """

    parts: Parts
    period_s: float
    wall: Callable[[], float]
    clock: Callable[[], float]
    memory: FleetMemory = field(default_factory=FleetMemory)
    ticks: int = 0
    last_tick_s: float = 0.0
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    ticked: asyncio.Event = field(default_factory=asyncio.Event)
    uids: Mapping[Key, str] = field(default_factory=dict)
    # What users stated at the last tick.
    _stated: tuple[Mapping[Key, DeploymentSpec], Mapping[str, Accelerator]] = ({}, {})
    _logged: dict[Key, tuple[dict[str, int], Reason, str | None]] = field(default_factory=dict)
    _silent: bool = False
    _not_woken: set[Key] = field(default_factory=set)
    _offered: dict[Key, ForecastMemory] = field(default_factory=dict)
    _time: CoreTime = field(init=False)

    def __post_init__(self) -> None:
        self._time = CoreTime(self.wall, self.clock)

    def wake(self) -> None:
        """Plan soon."""
        self.woken.set()

    def offer(self, rebuilt: Mapping[Key, ForecastMemory]) -> None:
        """Forecast memories with demand that was read back from Prometheus; taken over at the next tick."""
        self._offered.update(rebuilt)

    async def run(self) -> None:
        """Tick until cancelled. The caches must be complete."""
        while True:
            self.woken.clear()
            began_s = self.clock()
            await self.tick()
            await self._wait(began_s)

    async def _wait(self, began_s: float) -> None:
        """Wait until the next tick is due, or something requires an earlier one."""
        await asyncio.sleep(max(0.0, began_s + GAP_S - self.clock()))
        while (left_s := began_s + self.period_s - self.clock()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, ACTIVATION_S)):
                    await self.woken.wait()
            if self.woken.is_set():
                await asyncio.sleep(DEBOUNCE_S)
                return
            if await self._has_waiting_requests():
                return

    async def _has_waiting_requests(self) -> bool:
        """
        True if an activation query of a deployment at zero replicas returns more than 0.

        Not if the last tick knew that already and left it at zero (a budget, a pause, no workload): planning more
        often would not help.
        """
        asked = self._waiting(self.parts.inventory.planned(self.parts.inventory.classes()))
        if not asked:
            return False
        return bool(_with_requests(await self.parts.collector.activations(self.wall(), asked)) - self._not_woken)

    async def tick(self) -> None:
        """
        One tick.

        Nothing is planned on a cluster that has not been seen for minutes: replicas that were starting then would look
        late, although they serve by now, and would be given up.
        """
        began_s = self.clock()
        if self.parts.cluster.age_s() <= UNSEEN_S:
            await self._plan()
        self.ticks += 1
        self.ticked.set()
        self.last_tick_s = self.clock()
        self.parts.metrics.tick_s.observe(self.last_tick_s - began_s)

    async def _plan(self) -> None:
        """Observe, decide, hand over."""
        parts, epoch, now_s = self.parts, self.parts.fence.epoch, self.wall()
        self._forget_namesakes()
        at_start = dict(parts.inventory.deployments)
        classes = parts.inventory.classes()
        planned, specs = parts.inventory.planned(classes), parts.inventory.specs()
        self._forgive_edited(specs, classes)
        self._mark_sleeping()
        parts.cluster.follow(specs.values())
        harvest = await parts.collector.collect(now_s, self._waiting(planned))
        parts.metrics.failed(harvest.failures)
        self._log_source(harvest.samples)
        sight = parts.cluster.look(specs.values(), classes, harvest)
        specs = {key: spec.joined(sight.leaving.get(key, ())) for key, spec in specs.items()}
        decisions = await self._decide(specs, planned, sight, taken(at_start.values(), specs))
        self._not_woken = {
            key
            for key in _with_requests(harvest.activations)
            if not _wakes(without(specs[key], sight.absent.get(key, ())), decisions.get(key))
        }
        self._log_decisions(decisions)
        if parts.fence.holds():
            parts.metrics.show(self._tick_metrics(specs, sight, decisions))
            parts.hands.give(self._batch(now_s, epoch, at_start, sight, decisions))
        else:
            parts.metrics.show(Tick())

    async def _decide(
        self,
        specs: Mapping[Key, DeploymentSpec],
        planned: Collection[Key],
        sight: Sight,
        others: Mapping[Key, tuple[TierSpec, ...]],
    ) -> Mapping[Key, Decision]:
        """
        The core's decisions for what can be planned; the other deployments keep their memory and are left alone.

        Args:
            others: As in `policy_of`.
        """
        seen = {key: sight.deployments[key] for key in planned if key in sight.deployments}
        policy = policy_of(specs, seen, sight, others)
        observation = FleetObservation(time_s=self._time.next_s(self.memory), deployments=seen)
        before, self._offered = _with_demand(self.memory, self._offered), {}

        def work() -> tuple[FleetMemory, FleetDecision]:
            return cycle.step(before, observation, policy)

        after, decision = await in_thread(work)
        # What was learned is kept while a class is missing or a spec is invalid, but not for an object of the same name
        # that was created since the tick began.
        kept = {k: m for k, m in before.deployments.items() if k in self.uids and k not in policy.deployments}
        self.memory = FleetMemory(deployments={**after.deployments, **kept})
        money = {key: currency_of(specs[key], sight.accelerators) for key in decision.deployments}
        return {key: in_currency(each, money[key]) for key, each in decision.deployments.items()}

    def _forget_namesakes(self) -> None:
        """Drop the memory of a deployment that was recreated under the same name."""
        uids = {key: resource.uid for key, resource in self.parts.inventory.deployments.items()}
        recreated = {key for key, uid in uids.items() if self.uids.get(key, uid) != uid}
        if recreated:
            kept = {key: part for key, part in self.memory.deployments.items() if key not in recreated}
            self.memory = FleetMemory(deployments=kept)
            self._offered = {key: known for key, known in self._offered.items() if key not in recreated}
        self.uids = uids
        for gone in self._logged.keys() - uids.keys():
            del self._logged[gone]

    def _forgive_edited(self, specs: Mapping[Key, DeploymentSpec], classes: Mapping[str, Accelerator]) -> None:
        """Let tiers whose pods or places are others now be tried again at once: that may have been what was wrong."""
        (last_specs, last_classes), self._stated = self._stated, (specs, classes)
        moved, parts = classes != last_classes, dict(self.memory.deployments)
        for key, spec in specs.items():
            last, memory = last_specs.get(key), parts.get(key)
            if last is None or memory is None or (last is spec and not moved):
                continue
            pods = {tier.name: _pods_of(tier, last_classes) for tier in last.tiers}
            edited = {tier.name for tier in spec.tiers if pods.get(tier.name) != _pods_of(tier, classes)}
            if edited:
                parts[key] = memory.forgiven(edited)
        self.memory = FleetMemory(deployments=parts)

    def _mark_sleeping(self) -> None:
        """
        On a standby, or before the first tick, learn from the status which deployments were scaled to zero.

        The proof of idleness disappears with the last replica. A process that plans a moment later than the leader, or
        lost its memory, never sees it, and would wake all these deployments when it becomes the leader.
        """
        if self.parts.fence.holds() and self.ticks:
            return
        parts = dict(self.memory.deployments)
        for key, resource in self.parts.inventory.deployments.items():
            if _was_put_to_sleep(resource):
                parts[key] = parts.get(key, DeploymentMemory()).slept()
        self.memory = FleetMemory(deployments=parts)

    def _log_source(self, samples: Samples | Missing) -> None:
        """Log one line when Prometheus falls silent, and one when it is back."""
        was_silent, self._silent = self._silent, isinstance(samples, Missing)
        if isinstance(samples, Missing) and not was_silent:
            log.warning(
                "no metrics, nothing is scaled down until they are back: %s: %s", samples.reason, samples.detail
            )
        elif was_silent and not self._silent:
            log.info("metrics are back")
        self.parts.metrics.prometheus_up.set(float(not self._silent))

    def _waiting(self, planned: Mapping[Key, DeploymentSpec]) -> dict[Key, str]:
        """Activation queries of deployments that have no replica."""
        return {
            key: spec.scale_to_zero.activation_query
            for key, spec in planned.items()
            if spec.scale_to_zero is not None
            and spec.scale_to_zero.activation_query
            and spec.mode is not Mode.OFF
            and not self.parts.cluster.serves(key)
        }

    def _batch(
        self,
        time_s: float,
        epoch: int,
        at_start: Mapping[Key, DeploymentResource],
        sight: Sight,
        decisions: Mapping[Key, Decision],
    ) -> Batch:
        """
        The work for the hands. A deployment that was created or edited since the tick began waits for the next one.

        Args:
            time_s, epoch, at_start: Unix seconds, leadership and deployments at the start of the tick.
        """
        inventory = self.parts.inventory
        there = inventory.deployments
        return Batch(
            time_s=time_s,
            epoch=epoch,
            resources={key: now for key, now in there.items() if _is_unchanged(at_start.get(key), now)},
            decisions=decisions,
            observations=sight.deployments,
            view=sight.view,
            absent=sight.absent,
            leaving=sight.leaving,
            accelerators=sight.accelerators,
            classes=tuple(inventory.accelerators.values()),
            rivals=rivals(there.values(), inventory.specs()),
        )

    def _tick_metrics(
        self, specs: Mapping[Key, DeploymentSpec], sight: Sight, decisions: Mapping[Key, Decision]
    ) -> Tick:
        return Tick(
            specs=specs,
            observations=sight.deployments,
            decisions=decisions,
            accelerators=sight.accelerators,
            use=sight.view.accelerators,
        )

    def _log_decisions(self, decisions: Mapping[Key, Decision]) -> None:
        """On the leader, log one line per decision that differs from the deployment's last one."""
        if not self.parts.fence.holds():
            self._logged.clear()
            return
        for key, decision in decisions.items():
            replicas = {name: tier.replicas for name, tier in decision.tiers.items()}
            before, summary = self._logged.get(key), (replicas, decision.reason, decision.error)
            if before == summary:
                continue
            self._logged[key] = summary
            self.parts.metrics.decided(decision)
            # `Steady` is logged only if the replicas changed, not when a change ends or at the first decision.
            if decision.reason is not Reason.STEADY or (before is not None and before[0] != replicas):
                level = logging.ERROR if decision.error else logging.INFO
                extra = {"deployment": str(key), "reason": decision.reason.value, "replicas": replicas}
                log.log(level, decision.message, extra=extra)


def _with_requests(activations: Mapping[Key, float | Missing]) -> set[Key]:
    """Deployments at zero replicas for which requests wait."""
    return {key for key, value in activations.items() if not isinstance(value, Missing) and value > 0}


def _pods_of(tier: TierSpec, classes: Mapping[str, Accelerator]) -> tuple[object, ...]:
    """What a tier's pods are, and where they run."""
    class_ = classes.get(tier.accelerator)
    place = class_ and (class_.resource_name, class_.node_selector)
    return tier.workload, tier.target_ref, tier.accelerator, tier.accelerators_per_replica, place


def _wakes(spec: DeploymentSpec, decision: Decision | None) -> bool:
    """Whether the deployment will get a replica."""
    return spec.acts and decision is not None and any(tier.replicas for tier in decision.tiers.values())


def _was_put_to_sleep(resource: DeploymentResource) -> bool:
    """Whether the last reported decision is `ScaledToZero`."""
    decision = resource.status.get("decision")
    return isinstance(decision, Mapping) and decision.get("reason") == Reason.SCALED_TO_ZERO.value


def _is_unchanged(before: DeploymentResource | None, now: DeploymentResource) -> bool:
    return before is not None and (before.uid, before.generation) == (now.uid, now.generation)


def _with_demand(memory: FleetMemory, offered: Mapping[Key, ForecastMemory]) -> FleetMemory:
    """The memory, with the forecast part replaced where demand was read back."""
    parts = dict(memory.deployments)
    for key, known in offered.items():
        parts[key] = replace(parts.get(key, DeploymentMemory()), forecast=known)
    return FleetMemory(deployments=parts)
