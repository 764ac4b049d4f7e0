"""State that is kept between two orders."""

from dataclasses import replace

from tests.actuate.orders import H100, NOW_S, UID, decided, managed, order_of, resource_of, settled, spec_of
from tidegate.actuate.scene import PATIENCE_S
from tidegate.actuate.steps import steps
from tidegate.actuate.stock import Stock
from tidegate.ports import ClusterView

TWO = spec_of(managed("bf16"), managed("fp8"))
ORDER = order_of(TWO, ClusterView(), decided(bf16=1, fp8=1))


def test_manifests_are_made_once_per_generation() -> None:
    stock = Stock()
    first = stock.manifests(ORDER)
    assert stock.manifests(replace(ORDER, resource=replace(ORDER.resource, status={"replicas": 2}))) is first
    later = replace(ORDER.resource, generation=2, spec=spec_of(managed("bf16")))
    assert len(stock.manifests(replace(ORDER, resource=later))) == 2


def test_manifests_of_deployments_that_are_gone_are_not_kept() -> None:
    """Preview environments create and delete thousands in a year, each with 20 KiB of manifests."""
    stock, here = Stock(), ORDER.resource
    for tick in range(20):
        view = ClusterView()
        for resource in (here, replace(here, uid=f"preview-{tick}")):
            stock.scene(replace(ORDER, view=view, resource=resource), now_s=NOW_S, clock_s=tick * 15.0)
    kept = stock._made | stock._made_before
    assert kept.keys() == {here.uid, "preview-18", "preview-19"}


def test_manifests_survive_a_new_view() -> None:
    stock = Stock()
    scenes = [stock.scene(replace(ORDER, view=ClusterView()), now_s=NOW_S, clock_s=0.0) for _ in range(3)]
    assert scenes[0].manifests is scenes[1].manifests is scenes[2].manifests


def test_manifests_depend_on_node_selectors_but_not_on_price_or_capacity() -> None:
    stock = Stock()
    first = stock.manifests(ORDER)
    cheaper = {"nvidia-h100": replace(H100, price_usd_per_hour=2.0, capacity=5)}
    assert stock.manifests(replace(ORDER, accelerators=cheaper)) is first
    moved = {"nvidia-h100": replace(H100, node_selector={"gpu": "h100"})}
    assert stock.manifests(replace(ORDER, accelerators=moved)) != first


def test_a_pod_monitor_is_created_once_its_kind_exists() -> None:
    stock = Stock()
    kinds = [
        [m.ref.kind for m in stock.manifests(replace(ORDER, view=ClusterView(has_pod_monitors=there)))]
        for there in (False, True)
    ]
    assert kinds == [["Service", "Deployment", "Deployment"], ["Service", "PodMonitor", "Deployment", "Deployment"]]


def test_what_a_deployment_owns_is_found_by_its_uid() -> None:
    view = settled(resource_of(TWO), {"bf16": 1, "fp8": 1})
    stock = Stock()
    assert {w.ref.name for w in stock.owned(replace(ORDER, view=view))} == {"chat-bf16", "chat-fp8"}
    other = replace(ORDER.resource, uid="other")
    assert stock.owned(replace(ORDER, view=view, resource=other)) == ()
    assert stock.owned(ORDER) == (), "another view, another index"
    assert ORDER.resource.uid == UID


def test_a_field_changed_repeatedly_is_restored_every_ten_minutes() -> None:
    resource = resource_of(TWO)
    view = settled(resource, {"bf16": 1, "fp8": 1})
    ours = {each: replace(there, applied="ours") for each, there in view.workloads.items()}
    theirs = {each: replace(there, applied="theirs") for each, there in ours.items()}
    stock, answers = Stock(), []
    for clock_s in (0.0, 15.0, 30.0, 15.0 + PATIENCE_S):
        now = replace(view, workloads=ours if clock_s == 0.0 else theirs)
        found = steps(stock.scene(order_of(TWO, now, decided(bf16=1, fp8=1)), now_s=NOW_S, clock_s=clock_s))
        for write in [write for chain in found.chains for write in chain]:
            stock.wrote(write, clock_s=clock_s)
            stock._marks.setdefault(write.call.path, "ours")  # the write is seen, and is undone at once
        answers.append(len(found.chains))
    assert answers == [0, 2, 0, 2]
