"""
The control loop: observe, step, hand over.

In:    caches, metrics, what users want.
Out:   a `Batch` for the hands, numbers for /metrics, one log line per decision that changed.
Rules: one tick at a time, every `period_s`, earlier when something a user wrote changed or somebody waits at zero
       replicas, never closer than the core allows. `cycle.step` runs beside the event loop. Every replica of the
       operator plans, so that its memory is warm; only the leader's batch is carried out.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tidegate import cycle
from tidegate.actuate.ownership import rivals, taken
from tidegate.domain.decision import Decision, FleetDecision, Reason
from tidegate.domain.holdings import left_by, shared_by
from tidegate.domain.key import Key
from tidegate.domain.observation import FleetObservation, Missing
from tidegate.domain.spec import DeploymentSpec, FleetPolicy, Mode, TierSpec
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

log = logging.getLogger(__name__)

# The core's own limit on how close two observations may be.
GAP_S = 5.0
# Changes come in flocks (kubectl apply -f folder/): wait for the end of one.
DEBOUNCE_S = 0.5
# How often deployments at zero replicas are looked at: somebody waits for the first of these.
ACTIVATION_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the planner is made of."""

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
        parts: The rooms.
        period_s: Seconds between two ticks.
        wall: Unix seconds. clock: Monotonic seconds.
        memory: What the core remembers.
        uids: The objects that it is the memory of: those of the last tick.
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
    _specs: Mapping[Key, DeploymentSpec] = field(default_factory=dict)
    _said: dict[Key, tuple[dict[str, int], Reason, str | None]] = field(default_factory=dict)
    _silent: bool = False
    _in_vain: set[Key] = field(default_factory=set)
    _offered: dict[Key, ForecastMemory] = field(default_factory=dict)
    _time: CoreTime = field(init=False)

    def __post_init__(self) -> None:
        self._time = CoreTime(self.wall, self.clock)

    def wake(self) -> None:
        """Plan soon."""
        self.woken.set()

    def offer(self, rebuilt: Mapping[Key, ForecastMemory]) -> None:
        """Memories of the forecast that know demand which was found elsewhere; taken in at the next tick."""
        self._offered.update(rebuilt)

    async def run(self) -> None:
        """Tick until cancelled. The caches must be complete."""
        while True:
            self.woken.clear()
            began_s = self.clock()
            await self.tick()
            await self._rest(began_s)

    async def _rest(self, began_s: float) -> None:
        """Until the next tick is due, or something calls for an earlier one."""
        await asyncio.sleep(max(0.0, began_s + GAP_S - self.clock()))
        while (left_s := began_s + self.period_s - self.clock()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, ACTIVATION_S)):
                    await self.woken.wait()
            if self.woken.is_set():
                await asyncio.sleep(DEBOUNCE_S)
                return
            if await self._somebody_waits():
                return

    async def _somebody_waits(self) -> bool:
        """
        True where an activation query of a deployment at zero replicas gives more than 0.

        Not where the last tick knew that and left it at zero (a budget, a pause): planning more often helps nobody.
        """
        asked = self._waiting(self.parts.inventory.planned(self.parts.inventory.classes()))
        if not asked:
            return False
        return bool(_asking(await self.parts.collector.activations(self.wall(), asked)) - self._in_vain)

    async def tick(self) -> None:
        """Once round."""
        parts, began_s, epoch = self.parts, self.clock(), self.parts.fence.epoch
        now_s = self.wall()
        self._forget_namesakes()
        asked = dict(parts.inventory.deployments)
        classes = parts.inventory.classes()
        planned, specs = parts.inventory.planned(classes), parts.inventory.specs()
        self._forgive(specs)
        self._heed_leader()
        parts.cluster.follow(specs.values())
        harvest = await parts.collector.collect(now_s, self._waiting(planned))
        parts.metrics.failed(harvest.failures)
        self._tell_of_source(harvest.samples)
        sight = parts.cluster.look(specs.values(), classes, harvest)
        specs = {key: spec.joined(sight.leaving.get(key, ())) for key, spec in specs.items()}
        decisions = await self._decide(specs, planned, sight, taken(asked.values(), specs))
        self._in_vain = {key for key in _asking(harvest.activations) if not _wakes(specs[key], decisions.get(key))}
        self._say(decisions)
        if parts.fence.holds():
            parts.metrics.show(self._shown(specs, sight, decisions))
            parts.hands.give(self._batch(now_s, epoch, asked, sight, decisions))
        else:
            parts.metrics.show(Tick())
        self.ticks += 1
        self.ticked.set()
        self.last_tick_s = self.clock()
        parts.metrics.tick_s.observe(self.last_tick_s - began_s)

    async def _decide(
        self,
        specs: Mapping[Key, DeploymentSpec],
        planned: Collection[Key],
        sight: Sight,
        others: Mapping[Key, tuple[TierSpec, ...]],
    ) -> Mapping[Key, Decision]:
        """
        The core's decisions for what can be planned; the others keep their memory and are left alone.

        Args:
            others: Tiers by deployment whose workload another deployment has.
        """
        seen = {key: sight.deployments[key] for key in planned if key in sight.deployments}
        policy = _policy(specs, seen, sight, others)
        observation = FleetObservation(time_s=self._time.next_s(self.memory), deployments=seen)
        before, offered = self.memory, self._offered
        self._offered = {}

        def work() -> tuple[FleetMemory, FleetDecision]:
            return cycle.step(_with_demand(before, offered), observation, policy)

        after, decision = await in_thread(work)
        # A class that is gone for a moment, or a spec that is wrong for a while, must not cost what was learned.
        there = self.parts.inventory.deployments
        kept = {k: m for k, m in before.deployments.items() if k in there and k not in policy.deployments}
        self.memory = FleetMemory(deployments={**after.deployments, **kept})
        money = {key: currency_of(specs[key], sight.accelerators) for key in decision.deployments}
        return {key: in_currency(each, money[key]) for key, each in decision.deployments.items()}

    def _forget_namesakes(self) -> None:
        """Another object under the same name starts with an empty memory."""
        uids = {key: resource.uid for key, resource in self.parts.inventory.deployments.items()}
        strangers = {key for key, uid in uids.items() if self.uids.get(key, uid) != uid}
        if strangers:
            kept = {key: part for key, part in self.memory.deployments.items() if key not in strangers}
            self.memory = FleetMemory(deployments=kept)
            self._offered = {key: known for key, known in self._offered.items() if key not in strangers}
        self.uids = uids
        for gone in self._said.keys() - uids.keys():
            del self._said[gone]

    def _forgive(self, specs: Mapping[Key, DeploymentSpec]) -> None:
        """A tier whose pods were edited gets its chance at once: what was wrong with the old ones may be cured."""
        parts = dict(self.memory.deployments)
        for key, spec in specs.items():
            before, memory = self._specs.get(key), parts.get(key)
            if before is None or before is spec or memory is None:
                continue
            old = {tier.name: tier.workload for tier in before.tiers}
            edited = {tier.name for tier in spec.tiers if old.get(tier.name) != tier.workload}
            if edited:
                parts[key] = memory.forgiven(edited)
        self._specs = specs
        self.memory = FleetMemory(deployments=parts)

    def _heed_leader(self) -> None:
        """
        A standby, or a process that starts, knows by the status which deployments were put to sleep.

        The proof that nobody asks goes with the last replica: who plans a moment later than the leader never sees it,
        and would wake them all when it leads.
        """
        if self.parts.fence.holds() and self.ticks:
            return
        asleep = {key for key, it in self.parts.inventory.deployments.items() if _was_put_to_sleep(it)}
        parts = {key: part.slept() if key in asleep else part for key, part in self.memory.deployments.items()}
        self.memory = FleetMemory(deployments=parts)

    def _tell_of_source(self, samples: Samples | Missing) -> None:
        """One line when Prometheus falls silent, one when it is back."""
        was_silent, self._silent = self._silent, isinstance(samples, Missing)
        if isinstance(samples, Missing) and not was_silent:
            log.warning("no metrics: nothing shrinks until they are back: %s: %s", samples.reason, samples.detail)
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
        asked: Mapping[Key, DeploymentResource],
        sight: Sight,
        decisions: Mapping[Key, Decision],
    ) -> Batch:
        """
        What the hands are to do; a deployment that was made or edited since the tick began waits for the next one.

        Args:
            time_s, epoch, asked: Unix seconds, leadership and deployments as they were then.
        """
        inventory = self.parts.inventory
        there = inventory.deployments
        return Batch(
            time_s=time_s,
            epoch=epoch,
            resources={key: now for key, now in there.items() if _asks_as_before(asked.get(key), now)},
            decisions=decisions,
            observations=sight.deployments,
            view=sight.view,
            leaving=sight.leaving,
            accelerators=sight.accelerators,
            classes=tuple(inventory.accelerators.values()),
            rivals=rivals(there.values(), inventory.specs()),
        )

    def _shown(self, specs: Mapping[Key, DeploymentSpec], sight: Sight, decisions: Mapping[Key, Decision]) -> Tick:
        return Tick(
            specs=specs,
            observations=sight.deployments,
            decisions=decisions,
            accelerators=sight.accelerators,
            use=sight.view.accelerators,
        )

    def _say(self, decisions: Mapping[Key, Decision]) -> None:
        """One line per decision that differs from the last one of its deployment, on the leader."""
        if not self.parts.fence.holds():
            self._said.clear()
            return
        for key, decision in decisions.items():
            replicas = {name: tier.replicas for name, tier in decision.tiers.items()}
            before, said = self._said.get(key), (replicas, decision.reason, decision.error)
            if before == said:
                continue
            self._said[key] = said
            self.parts.metrics.decided(decision)
            # Rest is no news: neither coming to it at the same replicas, nor finding it after a start.
            if decision.reason is not Reason.STEADY or (before is not None and before[0] != replicas):
                level = logging.ERROR if decision.error else logging.INFO
                extra = {"deployment": str(key), "reason": decision.reason.value, "replicas": replicas}
                log.log(level, decision.message, extra=extra)


def _asking(activations: Mapping[Key, float | Missing]) -> set[Key]:
    """Deployments at zero replicas that somebody waits for."""
    return {key for key, value in activations.items() if not isinstance(value, Missing) and value > 0}


def _wakes(spec: DeploymentSpec, decision: Decision | None) -> bool:
    """Whether a deployment will have a replica."""
    return spec.acts and decision is not None and any(tier.replicas for tier in decision.tiers.values())


def _was_put_to_sleep(resource: DeploymentResource) -> bool:
    """Whether the last decision that was told is that nobody asks."""
    decision = resource.status.get("decision")
    return isinstance(decision, Mapping) and decision.get("reason") == Reason.SCALED_TO_ZERO.value


def _asks_as_before(before: DeploymentResource | None, now: DeploymentResource) -> bool:
    return before is not None and (before.uid, before.generation) == (now.uid, now.generation)


def _policy(
    specs: Mapping[Key, DeploymentSpec],
    seen: Collection[Key],
    sight: Sight,
    others: Mapping[Key, tuple[TierSpec, ...]],
) -> FleetPolicy:
    """
    What the core is asked for, with the accelerators that there are for it.

    Args:
        seen: Deployments that are planned now; what the others hold is not there for these.
        others: As in `_decide`.
    """
    deployments: dict[Key, DeploymentSpec] = {}
    for key, spec in specs.items():
        if all(tier.accelerator in sight.accelerators for tier in spec.tiers):
            able = _without(spec, sight.absent.get(key, ()))
            deployments[key] = _watching(able) if key in others else able
    alone = [(specs[key], there) for key, there in sight.deployments.items() if key not in seen]
    twice = [
        (replace(specs[key], tiers=tiers), sight.deployments[key])
        for key, tiers in others.items()
        if key in sight.deployments
    ]
    return FleetPolicy(deployments=deployments, accelerators=left_by(alone, shared_by(twice, sight.accelerators)))


def _without(spec: DeploymentSpec, absent: Collection[str]) -> DeploymentSpec:
    """The spec with no replica on tiers whose target does not exist: the others carry the demand until it does."""
    if not absent:
        return spec
    tiers = [replace(t, replicas_min=0, replicas_max=0) if t.name in absent else t for t in spec.tiers]
    return replace(spec, tiers=tuple(tiers))


def _watching(spec: DeploymentSpec) -> DeploymentSpec:
    """The spec of one that must not scale anything: nobody has to make room for what it wants."""
    return replace(spec, mode=Mode.RECOMMEND) if spec.acts else spec


def _with_demand(memory: FleetMemory, offered: Mapping[Key, ForecastMemory]) -> FleetMemory:
    """The memory with the forecast's part built anew where demand was read back."""
    parts = dict(memory.deployments)
    for key, known in offered.items():
        parts[key] = replace(parts.get(key, DeploymentMemory()), forecast=known)
    return FleetMemory(deployments=parts)
