"""Nodes that an autoscaler brings: from pods to decisions and back, with a scheduler between."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from tests.observe.test_cluster import cluster, tier, view
from tests.observe.test_replicas import pod, state
from tidegate import cycle
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, FleetObservation, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy, Slo
from tidegate.memory import FleetMemory
from tidegate.observe.cluster import Cluster, Sight
from tidegate.observe.collect import Harvest
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import Roster
from tidegate.observe.stock import unprovisioned
from tidegate.ports import AcceleratorUse

GPU = "nvidia.com/gpu"
SERVER_S = 120.0
CLASSES = {
    "h100": Accelerator(name="h100", price_usd_per_hour=5.0, node_selector={"class": "od"}),
    "h100-spot": Accelerator(name="h100-spot", price_usd_per_hour=2.0, node_selector={"class": "spot"}, capacity=16),
}
SPEC = DeploymentSpec(
    key=Key("prod", "chat"),
    model="meta-llama/Llama-3.1-8B-Instruct",
    slo=Slo(ttft_s=1.0, itl_s=0.05),
    tiers=(tier("od", target="od"), replace(tier("spot", target="spot"), accelerator="h100-spot")),
    replicas_max=8,
)


def use(*, by_others: int = 0, blocks: Mapping[int, int] | None = None) -> AcceleratorUse:
    """Of eight accelerators."""
    return AcceleratorUse(allocatable=8, by_tidegate=0, by_others=by_others, blocks=blocks or {})


@pytest.mark.parametrize(
    ("capacity", "used", "expected"),
    [
        pytest.param(None, use(blocks={8: 1}), 0, id="no ceiling is stated"),
        pytest.param(16, use(blocks={8: 1}), 8, id="half of it is there"),
        pytest.param(16, use(by_others=8), 16, id="others have all there is"),
        pytest.param(4, use(blocks={8: 1}), 0, id="more than may be used"),
        pytest.param(16, None, 0, id="nodes may not be listed"),
    ],
)
def test_accelerators_that_no_node_offers_yet(capacity: int | None, used: AcceleratorUse | None, expected: int) -> None:
    assert unprovisioned(replace(CLASSES["h100"], capacity=capacity), used) == expected


def test_a_start_is_as_long_as_the_wait_for_its_node_and_one_that_was_withdrawn_says_nothing() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    waiting = pod("a", ready_s=None, created_s=9_000.0, node="", unschedulable=True)
    assert state(waiting, roster=roster, at=9_100.0).startup_s is None
    assert state(roster=roster, at=9_200.0).startup_s is None
    assert state(replace(waiting, name="b", uid="b"), roster=roster, at=9_200.0).startup_s is None
    served = replace(waiting, name="b", uid="b", node="n", unschedulable=False, ready=True, ready_s=9_400.0)
    assert state(served, roster=roster, at=9_400.0).startup_s == 400.0


@dataclass
class World:
    """Nodes for the tier `od`, and an autoscaler that takes its time to bring one for `spot`."""

    node_s: float
    time_s: float = 1_700_000_000.0
    cluster: Cluster = field(default_factory=cluster)
    memory: FleetMemory = field(default_factory=FleetMemory)
    pods: dict[str, PodView] = field(default_factory=dict)
    bound_s: dict[str, float] = field(default_factory=dict)  # since when a pod has a node
    wanted: dict[str, int] = field(default_factory=lambda: {"od": 0, "spot": 0})
    called_s: float | None = None  # since when a pod waits for a node
    nodes_brought: int = 0

    def tick(self) -> dict[str, int]:
        """One look, one decision, obeyed. Returns the replicas that were ready, by tier."""
        self._schedule()
        sight = self._look()
        tiers = sight.deployments[SPEC.key].tiers
        ready = {name: state.ready for name, state in tiers.items()}
        seen = DeploymentObservation(
            tiers={name: _read(state, of=sum(ready.values())) for name, state in tiers.items()}
        )
        self.memory, decision = cycle.step(
            self.memory,
            FleetObservation(time_s=self.time_s, deployments={SPEC.key: seen}),
            FleetPolicy(deployments={SPEC.key: SPEC}, accelerators=sight.accelerators),
        )
        for name, decided in decision.deployments[SPEC.key].tiers.items():
            self._scale(name, decided.replicas)
        self.time_s += 15.0
        return ready

    def _look(self) -> Sight:
        self.cluster.pods.items = {("prod", name): one for name, one in self.pods.items()}
        informer = self.cluster.kinds["apps/v1", "Deployment"].informer
        assert informer is not None
        views = [view(name, replicas=n, selector=f"app={name}") for name, n in self.wanted.items()]
        informer.items = {("prod", each.ref.name): ("1", each) for each in views}
        return self.cluster.look([SPEC], CLASSES, Harvest(time_s=self.time_s, samples=Missing(reason="Timeout")))

    def _schedule(self) -> None:
        """A node stays while it is used; a server is ready two minutes after it has a node."""
        nodes = {"od", *[one.node for one in self.pods.values() if one.node]}
        waits = "spot" not in nodes and any(name.startswith("spot") for name in self.pods)
        self.called_s = (self.called_s or self.time_s) if waits else None
        if self.called_s is not None and self.time_s - self.called_s >= self.node_s:
            self.nodes_brought += 1
            nodes.add("spot")
        self.cluster.nodes.items = {
            ("", name): NodeView(name=name, labels={"class": name}, allocatable={GPU: 8}, usable=True) for name in nodes
        }
        for name, one in self.pods.items():
            node = one.labels["app"]
            if node not in nodes:
                self.pods[name] = replace(one, unschedulable=True)
                continue
            since_s = self.bound_s.setdefault(name, self.time_s)
            ready_s = since_s + SERVER_S if self.time_s >= since_s + SERVER_S else None
            self.pods[name] = replace(one, node=node, unschedulable=False, ready=ready_s is not None, ready_s=ready_s)

    def _scale(self, tier: str, wanted: int) -> None:
        self.wanted[tier] = wanted
        mine = [name for name in self.pods if name.startswith(tier)]
        for name in mine[wanted:]:
            del self.pods[name]
        for i in range(wanted - len(mine)):
            made = pod(f"{tier}-{self.time_s:.0f}-{i}", ready_s=None, created_s=self.time_s, node="")
            self.pods[made.name] = replace(made, labels={"app": tier}, requests={GPU: 1})


def _read(state: TierState, *, of: int) -> TierState:
    """Six requests/s, split evenly among all that are ready."""
    if not state.ready:
        return state
    rate = 6.0 * state.ready / of
    reading = TierReading(
        window_s=60.0, age_s=3.0, arrival_rps=rate, completion_rps=rate, running=rate * 3, waiting=0.0
    )
    return replace(state, reading=replace(reading, prompt_tokens_mean=512.0, output_tokens_mean=200.0))


@pytest.mark.parametrize(
    ("node_s", "nodes"),
    [
        pytest.param(60.0, 1, id="a minute"),
        pytest.param(240.0, 1, id="four minutes"),
        pytest.param(480.0, 2, id="eight minutes: the first one comes after its replica was given up"),
    ],
)
def test_a_cheaper_tier_is_reached_although_its_nodes_have_to_come_first(node_s: float, nodes: int) -> None:
    world = World(node_s=node_s)
    ready = [world.tick() for _ in range(240)]
    assert ready[-1] == {"od": 0, "spot": 1}
    assert world.nodes_brought <= nodes
