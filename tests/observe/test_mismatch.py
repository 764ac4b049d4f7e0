"""
Target workloads whose pods use other accelerators than their tier states.
"""

from dataclasses import replace

import pytest

from tests.observe.test_cluster import CHAT, H100, SPEC
from tests.observe.test_replicas import in_group, pod
from tidegate.observe.mismatch import mismatches
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierView

GPU = "nvidia.com/gpu"
CLASS = replace(H100, node_selector={"gpu": "h100"})
NODES = {
    ("", name): NodeView(name=name, labels={"gpu": gpu}, allocatable={GPU: 8}, usable=True)
    for name, gpu in (("right", "h100"), ("wrong", "a100"))
}


def one(name: str, gpus: int, *, node: str = "right", ready: bool = True) -> PodView:
    return replace(pod(name, ready=ready), node=node, requests={GPU: gpus} if gpus else {})


def said(*pods: PodView, workers: tuple[PodView, ...] = (), each: int = 1) -> tuple[str, ...]:
    """Sentences about the tier that has a target; the other tier is managed."""
    target, managed = SPEC.tiers
    spec = replace(SPEC, tiers=(replace(target, accelerators_per_replica=each), managed))
    views = {
        (CHAT, "bf16"): TierView(pods=pods, workers=workers, wanted=len(pods)),
        (CHAT, "fp8"): TierView(pods=(one("made", 7, node="wrong"),), wanted=1),
    }
    return mismatches([spec], views, {"h100": CLASS}, NODES).get(CHAT, ())


def test_a_wrong_number_of_accelerators_is_reported() -> None:
    assert said(one("a", 4), one("b", 4)) == (f"tier bf16: a replica holds 4 {GPU}, but acceleratorsPerReplica is 1",)
    assert said(one("a", 4), one("b", 4), each=4) == ()


def test_pods_on_nodes_that_the_class_does_not_select_are_reported() -> None:
    assert said(one("a", 1), one("b", 1, node="wrong")) == (
        "tier bf16: 1 of 2 pods are on nodes that AcceleratorClass h100 does not select",
    )


def member(group: int, worker: int, *, ready: bool = True, terminating: bool = False) -> PodView:
    made = one(f"big-{group}-{worker}", 8, ready=ready and not terminating)
    return replace(made, labels=in_group(group, worker), terminating=terminating)


@pytest.mark.parametrize(
    ("leaders", "workers", "each", "is_told"),
    [
        pytest.param(
            [member(0, 0), member(1, 0)],
            [member(0, 1), member(1, 1)],
            16,
            False,
            id="a leader and a worker each, as stated",
        ),
        pytest.param(
            [member(0, 0), member(1, 0)], [member(0, 1), member(1, 1)], 8, True, id="only the leader was counted"
        ),
        pytest.param(
            [member(0, 0)], [member(0, 1), member(0, 2, ready=False)], 8, False, id="a group that is not complete yet"
        ),
        pytest.param(
            [member(0, 0), member(1, 0)],
            [member(0, 1), member(1, 1, ready=False)],
            8,
            True,
            id="one that is complete beside one that is not",
        ),
        pytest.param([member(0, 0), member(1, 0)], [member(0, 1)], 8, False, id="a worker is missing"),
        pytest.param(
            [member(0, 0), member(1, 0, terminating=True)],
            [member(0, 1), member(1, 1)],
            16,
            False,
            id="a worker serves until its leader is gone",
        ),
        pytest.param([member(0, 0)], [member(0, 1), member(1, 1)], 16, False, id="and a moment longer"),
        pytest.param(
            [member(0, 0)], [member(0, 1), member(0, 2, terminating=True)], 24, False, id="a worker's node is drained"
        ),
    ],
)
def test_a_group_of_pods_is_one_replica(
    leaders: list[PodView], workers: list[PodView], each: int, is_told: bool
) -> None:
    assert bool(said(*leaders, workers=tuple(workers), each=each)) is is_told


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param((), id="nothing runs"),
        pytest.param((one("a", 0), one("b", 0)), id="devices are claimed, not requested"),
        pytest.param((one("a", 2), one("b", 1)), id="a roll-out changes the number"),
        pytest.param((replace(one("a", 2), terminating=True), one("b", 1)), id="the old ones are on their way out"),
        pytest.param((one("a", 1, node=""),), id="it waits for a node"),
        pytest.param((one("a", 1, node="unknown"),), id="its node may not be read"),
    ],
)
def test_what_cannot_be_seen_is_not_judged(pods: tuple[PodView, ...]) -> None:
    assert said(*pods) == ()
