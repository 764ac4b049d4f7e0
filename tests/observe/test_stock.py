"""Who holds the accelerators, and how many replicas the nodes can hold."""

from dataclasses import replace

import pytest

from tests.observe.test_replicas import pod
from tidegate.domain.spec import Accelerator, TargetRef, TierSpec
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierView
from tidegate.observe.stock import accelerator_use, placeable, usable_capacity

GPU = "nvidia.com/gpu"


def node(name: str, amount: int, *, usable: bool = True, **labels: str) -> NodeView:
    return NodeView(name=name, labels=labels, allocatable={GPU: amount}, usable=usable)


NOW = 10_000.0


def holder(uid: str, where: str, amount: int, *, ended: bool = False, gone_s: float | None = None) -> PodView:
    """A pod that holds accelerators of a node."""
    return pod(
        uid,
        uid=uid,
        ready_s=None,
        node=where,
        requests={GPU: amount},
        ended=ended,
        terminating=gone_s is not None,
        gone_s=gone_s,
    )


@pytest.mark.parametrize(
    ("nodes", "pods", "expected"),
    [
        pytest.param([node("a", 8, kind="h100")], [], (8, 0, 0), id="an empty node"),
        pytest.param([node("a", 8, kind="a10")], [], (0, 0, 0), id="a node of another class"),
        pytest.param([node("a", 8, usable=False, kind="h100")], [], (0, 0, 0), id="an empty node that is cordoned"),
        pytest.param(
            [NodeView(name="a", labels={"kind": "h100"}, allocatable={}, usable=True)],
            [replace(holder("ours", "a", 0), requests={})],
            (0, 0, 0),
            id="a node without a device plugin yet, and one of ours that asks for nothing",
        ),
        pytest.param(
            [node("a", 8, kind="h100")],
            [holder("ours", "a", 2), holder("theirs", "a", 3)],
            (8, 2, 3),
            id="ours and others' on one node",
        ),
        pytest.param(
            [node("a", 8, kind="h100")],
            [holder("ours", "", 2), holder("done", "a", 4, ended=True)],
            (8, 0, 0),
            id="not bound, or over",
        ),
        pytest.param(
            [node("a", 8, usable=False, kind="h100")],
            [holder("ours", "a", 2), holder("theirs", "a", 1)],
            (3, 2, 1),
            id="a cordoned node offers only what is held",
        ),
        pytest.param(
            [node("a", 8, kind="h100")],
            [holder("ours", "a", 2, gone_s=NOW + 60)],
            (8, 2, 0),
            id="one on its way out gives back what it holds",
        ),
        pytest.param(
            [node("a", 8, usable=False, kind="h100"), node("b", 8, kind="h100")],
            [holder("ours", "a", 2, gone_s=NOW + 60), holder("theirs", "a", 4), holder("more", "a", 2, gone_s=NOW)],
            (12, 0, 4),
            id="one on its way out of a node that is drained or dead gives nothing back",
        ),
        pytest.param(
            [node("a", 8, kind="h100")],
            [holder("ours", "a", 2, gone_s=NOW - 120)],
            (8, 0, 2),
            id="one that hangs keeps what it holds",
        ),
        pytest.param(
            [node("a", 8, usable=False, kind="h100")],
            [
                replace(holder("ours", "a", 2), lost="a"),
                replace(holder("theirs", "a", 3), lost="a"),
                holder("b", "a", 1),
            ],
            (1, 0, 1),
            id="those lost with their node hold nothing",
        ),
        pytest.param(
            [node("a", 0, kind="h100")],
            [holder("ours", "a", 2), holder("theirs", "a", 1)],
            (3, 2, 1),
            id="a node whose device plugin is away offers what is held",
        ),
        pytest.param(
            [node("a", 8, kind="h1OO"), node("b", 8, kind="h100")],
            [holder("ours", "a", 2), holder("theirs", "a", 1)],
            (8, 2, 0),
            id="ours on a node that is not selected any more",
        ),
        pytest.param(
            [NodeView(name="a", labels={"kind": "h100"}, allocatable={"amd.com/gpu": 8}, usable=True)],
            [replace(holder("ours", "a", 2), requests={"amd.com/gpu": 2, "rdma/ib": 1}), holder("theirs", "a", 0)],
            (2, 2, 0),
            id="the class names another resource than ours hold",
        ),
    ],
)
def test_accelerators_are_counted_by_holder(
    nodes: list[NodeView], pods: list[PodView], expected: tuple[int, int, int]
) -> None:
    h100 = Accelerator(name="h100", price_usd_per_hour=3.0, node_selector={"kind": "h100"})
    use = accelerator_use([h100], nodes, pods, {"ours": "h100"}, time_s=NOW)["h100"]
    assert (use.allocatable, use.by_tidegate, use.by_others) == expected


def test_accelerators_of_a_node_in_two_classes_are_counted_once() -> None:
    whole = Accelerator(name="h100", price_usd_per_hour=3.0, node_selector={"kind": "h100"})
    part = Accelerator(name="pool", price_usd_per_hour=3.0, node_selector={"kind": "h100", "pool": "a"})
    nodes, pods = [node("a", 8, kind="h100", pool="a")], [holder("ours", "a", 6)]
    use = accelerator_use([whole, part], nodes, pods, {"ours": "h100"}, time_s=NOW)
    assert usable_capacity(whole, use["h100"]) == 8
    assert usable_capacity(part, use["pool"]) == 2


MIXED = [node("a", 8, kind="h100"), node("b", 8, usable=False, kind="h100"), node("c", 8, kind="a10")]
HELD = [holder("ours", "a", 2), holder("theirs", "a", 3), holder("kept", "b", 1), holder("other", "b", 6)]


@pytest.mark.parametrize(
    ("stated", "pods", "capacity"),
    [
        pytest.param(64, HELD, 64, id="the stated ceiling holds"),
        pytest.param(None, [], 8, id="what usable nodes offer"),
        pytest.param(None, HELD, 6, id="without what others hold"),
        pytest.param(None, [*HELD, holder("moved", "c", 4)], 10, id="with ours on a node that is not selected"),
        pytest.param(None, [holder("theirs", "a", 9)], 0, id="never below nothing"),
        pytest.param(None, None, None, id="nodes cannot be seen: unknown, not none"),
    ],
)
def test_capacity(stated: int | None, pods: list[PodView] | None, capacity: int | None) -> None:
    class_ = Accelerator(name="h", price_usd_per_hour=1.0, node_selector={"kind": "h100"}, capacity=stated)
    own = dict.fromkeys(("ours", "kept", "moved"), "h")
    use = None if pods is None else accelerator_use([class_], MIXED, pods, own, time_s=NOW)["h"]
    assert usable_capacity(class_, use) == capacity


FOURS = TierSpec(name="bf16", quality=1.0, accelerator="h", accelerators_per_replica=4, replicas_min=0, replicas_max=9)
SINGLE = TargetRef(api_version="apps/v1", kind="Deployment", name="x")
GROUPS = TargetRef(api_version="leaderworkerset.x-k8s.io/v1", kind="LeaderWorkerSet", name="x")


@pytest.mark.parametrize(
    ("tier", "capacity", "taken", "most"),
    [
        pytest.param(FOURS, None, (0, 0, 0), None, id="all that the capacity allows"),
        pytest.param(FOURS, None, (5, 5, 5), 0, id="three are free on each of three nodes"),
        pytest.param(FOURS, None, (5, 1, 5), 1, id="there is room for one"),
        pytest.param(FOURS, 4, (5, 1, 5), None, id="no more than one may be used anyway"),
        pytest.param(FOURS, 48, (5, 5, 5), None, id="an autoscaler may add a node"),
        pytest.param(replace(FOURS, accelerators_per_replica=1), None, (5, 5, 5), None, id="one always fits"),
        pytest.param(replace(FOURS, accelerators_per_replica=16), None, (0, 0, 0), 0, id="larger than any node"),
        pytest.param(replace(FOURS, target_ref=GROUPS), None, (5, 5, 5), None, id="a group may span nodes"),
        pytest.param(replace(FOURS, target_ref=SINGLE), None, (5, 5, 5), 0, id="pods of a Deployment may not"),
        pytest.param(replace(FOURS, accelerator="none"), None, (5, 5, 5), None, id="no such class"),
    ],
)
def test_replicas_fit_into_what_single_nodes_have_left(
    tier: TierSpec, capacity: int | None, taken: tuple[int, ...], most: int | None
) -> None:
    nodes = [node(name, 8) for name in "abc"]
    classes = {"h": Accelerator(name="h", price_usd_per_hour=1.0, capacity=capacity)}
    use = accelerator_use(classes.values(), nodes, list(map(holder, "xyz", "abc", taken)), {}, time_s=NOW)
    view = TierView(pods=(), wanted=0)
    assert placeable(tier, view, classes.get(tier.accelerator), use.get(tier.accelerator)) == most


def test_what_serves_fits_and_other_replicas_of_tidegate_could_leave() -> None:
    """One of ours holds less than its tier states; a small one of another deployment is on the second node."""
    pods = (holder("mine", "a", 1), holder("small", "b", 3), holder("theirs", "a", 7), holder("theirs", "c", 5))
    class_ = Accelerator(name="h", price_usd_per_hour=1.0)
    own = dict.fromkeys(("mine", "small"), "h")
    use = accelerator_use([class_], [node(name, 8) for name in "abc"], pods, own, time_s=NOW)["h"]
    assert placeable(FOURS, TierView(pods=(), wanted=0), class_, use) == 2
    assert placeable(FOURS, TierView(pods=pods[:1] * 3, wanted=3), class_, use) == 3
    for gone in (holder("mine", "", 4), holder("mine", "a", 4, ended=True), holder("mine", "a", 4, gone_s=NOW)):
        assert placeable(FOURS, TierView(pods=(gone,) * 3, wanted=3), class_, use) == 2
