"""Pods, workloads and nodes joined to deployments and tiers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.kube_fakes import Clock, ScriptedApi, down, until
from tests.observe.test_replicas import pod
from tidegate.domain.key import Key
from tidegate.domain.observation import Missing, TierReading
from tidegate.domain.spec import Accelerator, DeploymentSpec, Mode, Slo, TargetRef, TierSpec
from tidegate.observe import kinds
from tidegate.observe.cluster import Cluster, Sight
from tidegate.observe.collect import Harvest
from tidegate.observe.decode import PodSample
from tidegate.observe.kinds import KindWatch
from tidegate.observe.objects import NodeView, PodView, ScalerView
from tidegate.observe.replicas import Roster
from tidegate.ports import ApiError, Call, ObjectRef, WorkloadView

CHAT = Key("prod", "chat")
NOW = 10_000.0
H100 = Accelerator(name="h100", price_usd_per_hour=3.0)
OURS = {"tidegate.io/inference-deployment": "chat", "tidegate.io/tier": "fp8"}


def tier(name: str, *, target: str = "", kind: str = "Deployment") -> TierSpec:
    ref = TargetRef(api_version="apps/v1", kind=kind, name=target) if target else None
    return TierSpec(
        name=name,
        quality=1.0,
        accelerator="h100",
        accelerators_per_replica=1,
        replicas_min=0,
        replicas_max=4,
        target_ref=ref,
    )


SPEC = DeploymentSpec(
    key=CHAT,
    model="m",
    slo=Slo(ttft_s=0.5, itl_s=0.04),
    tiers=(tier("bf16", target="old"), tier("fp8")),
    replicas_max=8,
)


def view(name: str, *, replicas: int, selector: str = "", labels: dict[str, str] | None = None) -> WorkloadView:
    ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="prod", name=name)
    return WorkloadView(ref=ref, uid=name, path=f"/{name}", replicas=replicas, selector=selector, labels=labels or {})


def cluster(*pods: PodView, workloads: tuple[WorkloadView, ...] = ()) -> Cluster:
    made = Cluster(ScriptedApi(), Roster(window_s=60.0, stale_s=60.0), clock=Clock())
    made.pods.items = {(p.namespace, p.name): p for p in pods}
    informer = made.kinds["apps/v1", "Deployment"].informer
    assert informer is not None
    informer.items = {("prod", w.ref.name): ("1", w) for w in workloads}
    informer.synced = True
    made.nodes.items = {("", "n"): NodeView(name="n", labels={}, allocatable={"nvidia.com/gpu": 8}, usable=True)}
    return made


def look(subject: Cluster, **harvest: Any) -> Sight:
    base: dict[str, Any] = {"time_s": NOW, "samples": Missing(reason="Timeout")}
    return subject.look([SPEC], {"h100": H100}, Harvest(**(base | harvest)))


def test_pods_of_managed_tiers_are_found_by_labels_and_those_of_targets_by_selector() -> None:
    pods = (pod("new", labels=OURS), pod("old", labels={"app": "old"}), pod("stranger", labels={"app": "else"}))
    workloads = (view("chat-fp8", replicas=3, labels=OURS), view("old", replicas=1, selector="app=old"))
    seen = look(cluster(*pods, workloads=workloads)).deployments[CHAT].tiers
    assert (seen["bf16"].ready, seen["bf16"].starting) == (1, 0)
    assert (seen["fp8"].ready, seen["fp8"].starting) == (1, 2)


def test_accelerators_of_a_targets_pods_are_compared_with_its_tier() -> None:
    holds_two = pod("old", labels={"app": "old"}, requests={"nvidia.com/gpu": 2})
    sight = look(cluster(holds_two, workloads=(view("old", replicas=1, selector="app=old"),)))
    assert [key for key, said in sight.view.mismatches.items() if "holds 2 nvidia.com/gpu" in said[0]] == [CHAT]


def test_a_pod_that_two_workloads_select_belongs_to_the_one_that_created_it() -> None:
    both = {"app": "chat"}
    pods = (
        pod("old-5f7c9-a", labels=both, maker="Deployment/old"),
        pod("chat-fp8-6d4c-b", labels=OURS | both, maker="Deployment/chat-fp8"),
        pod("canary-7b8d-c", labels=both, maker="Deployment/canary"),
    )
    samples = {(p.namespace, p.name): PodSample(values={"running": 1.0, "started": 5.0}, age_s=1.0) for p in pods}
    workloads = (view("chat-fp8", replicas=1, labels=OURS), view("old", replicas=1, selector="app=chat"))
    seen = look(cluster(*pods, workloads=workloads), samples=samples).deployments[CHAT].tiers
    readings = {name: state.reading for name, state in seen.items()}
    arrivals = {name: r.arrival_rps for name, r in readings.items() if isinstance(r, TierReading)}
    assert arrivals == {"bf16": 10.0, "fp8": 5.0}, "the canary's requests are the model's too"
    assert (seen["bf16"].ready, seen["bf16"].terminating) == (1, 1)


def test_pods_of_another_namespace_are_not_ours() -> None:
    foreign = pod("new", labels=OURS, namespace="test")
    assert look(cluster(foreign)).deployments[CHAT].tiers["fp8"].ready == 0


def test_metrics_find_their_tier() -> None:
    sample = PodSample(values={"running": 3.0}, age_s=1.0)
    seen = look(cluster(pod("new", labels=OURS)), samples={("prod", "new"): sample})
    reading = seen.deployments[CHAT].tiers["fp8"].reading
    assert isinstance(reading, TierReading)
    assert reading.running == 3.0


def test_a_target_that_does_not_exist_is_reported_as_missing() -> None:
    reading = look(cluster()).deployments[CHAT].tiers["bf16"].reading
    assert isinstance(reading, Missing)
    assert reading.reason == "NoWorkload"


OLD = view("old", replicas=1, selector="app=old")
FP8 = view("chat-fp8", replicas=3, labels=OURS)
OTHERS = view("old", replicas=1, selector="app=old", labels={"tidegate.io/inference-deployment": "search"})


@pytest.mark.parametrize(
    ("workloads", "after_s", "absent"),
    [
        pytest.param((OLD, FP8), 3600.0, set(), id="all are there"),
        pytest.param((FP8,), 0.0, {"bf16"}, id="a target that is not there"),
        pytest.param((OLD,), 0.0, set(), id="one of ours that is about to be made"),
        pytest.param((OLD,), 60.0, {"fp8"}, id="one of ours that was not made"),
        pytest.param((OTHERS, FP8), 0.0, {"bf16"}, id="a target that was made for another deployment"),
        pytest.param((), 3600.0, {"bf16", "fp8"}, id="where none is there, all of them"),
    ],
)
def test_tiers_without_a_workload_are_absent(
    workloads: tuple[WorkloadView, ...], after_s: float, absent: set[str]
) -> None:
    subject = cluster(workloads=workloads)
    look(subject)
    assert look(subject, time_s=NOW + after_s).absent.get(CHAT, frozenset()) == absent


def test_a_target_that_was_made_for_another_deployment_is_in_the_view_and_its_pods_are_not_counted_twice() -> None:
    seen = look(cluster(pod("old", labels={"app": "old"}), workloads=(OTHERS, FP8)))
    assert seen.deployments[CHAT].tiers["bf16"].ready == 0
    assert seen.view.workloads[OTHERS.ref] == OTHERS


def test_a_foreign_deployment_with_a_managed_tiers_name_is_in_the_view() -> None:
    theirs = view("chat-fp8", replicas=3)
    seen = look(cluster(workloads=(OLD, theirs))).view.workloads
    assert seen[theirs.ref] == theirs


def test_a_copy_of_a_managed_deployment_under_another_name_is_ignored() -> None:
    copy = view("chat-fp8-copy", replicas=0, labels=OURS)
    seen = look(cluster(workloads=(OLD, FP8, copy)))
    assert seen.view.workloads[FP8.ref] == FP8
    assert seen.deployments[CHAT].tiers["fp8"].starting == FP8.replicas


@pytest.mark.parametrize(
    "change", [pytest.param({"mode": Mode.RECOMMEND}, id="Recommend"), pytest.param({"paused": True}, id="paused")]
)
def test_no_tier_is_absent_if_the_deployment_does_not_act(change: dict[str, Any]) -> None:
    subject, quiet = cluster(workloads=(OLD,)), replace(SPEC, **change)
    for time_s in (NOW, NOW + 3600):
        seen = subject.look([quiet], {"h100": H100}, Harvest(time_s=time_s, samples=Missing(reason="Timeout")))
        assert seen.absent == {}


def test_accelerators_held_by_others_reduce_the_capacity() -> None:
    mine = pod("new", labels=OURS, requests={"nvidia.com/gpu": 1})
    other = pod("else", labels={}, requests={"nvidia.com/gpu": 3})
    sight = look(cluster(mine, other))
    use = sight.view.accelerators["h100"]
    assert (use.allocatable, use.by_tidegate, use.by_others) == (8, 1, 3)
    assert sight.accelerators["h100"].capacity == 5


def test_nodes_that_may_not_be_listed_leave_capacity_unknown() -> None:
    subject = cluster()
    subject.nodes.absent = True
    assert look(subject).accelerators["h100"].capacity is None


def test_with_one_namespace_nodes_and_pods_are_still_watched_everywhere() -> None:
    """Pods of other namespaces hold accelerators of the same nodes."""
    made = Cluster(ScriptedApi(), Roster(window_s=60.0, stale_s=60.0), clock=Clock(), namespace="prod")
    everywhere = {i.path for i in made.informers if "/namespaces/prod/" not in i.path}
    assert everywhere == {"/api/v1/nodes", "/api/v1/pods"}


def test_a_view_tells_when_it_was_taken() -> None:
    """By the clock that our own writes are timed with."""
    assert look(cluster()).view.seen_s == Clock().now_s


def test_scalers_are_listed_by_what_they_scale() -> None:
    subject = cluster()
    target = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="prod", name="old")
    hpa = ObjectRef(api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace="prod", name="h")
    subject.scalers[0].items = {("prod", "h"): ScalerView(ref=hpa, target=target)}
    assert look(subject).view.scalers == {target: (hpa,)}


@pytest.mark.parametrize(
    ("activation", "queued"),
    [
        pytest.param(3.0, 3.0, id="three wait"),
        pytest.param(0.0, 0.0, id="nobody waits"),
        pytest.param(-1.0, 0.0, id="a query below zero means nobody"),
        pytest.param(Missing(reason="Timeout"), None, id="not known is not nobody"),
    ],
)
def test_an_activation_value_becomes_the_gateways_queue(activation: float | Missing, queued: float | None) -> None:
    seen = look(cluster(), activations={CHAT: activation}).deployments[CHAT]
    gateway = seen.gateway
    assert seen.unheard == (activation if isinstance(activation, Missing) else None)
    assert (gateway.queued if gateway is not None else None) == queued
    assert gateway is None or gateway.arrival_rps is None, "who waits says nothing of who came"


def test_deployments_without_a_replica_are_known() -> None:
    subject = cluster()
    look(subject)
    assert not subject.serves(CHAT)
    subject.pods.items = {("prod", "new"): pod("new", labels=OURS, ready_s=None)}
    look(subject)
    assert subject.serves(CHAT)


GONE = {"tidegate.io/inference-deployment": "chat", "tidegate.io/tier": "int4"}


def test_a_removed_tier_counts_while_its_pods_serve() -> None:
    pods = [pod(f"gone-{i}", labels=GONE, requests={"nvidia.com/gpu": 2}) for i in range(3)]
    sample = PodSample(values={"running": 3.0}, age_s=1.0)
    workloads = (OLD, view("chat-int4", replicas=3, labels=GONE))
    sight = look(cluster(*pods, workloads=workloads), samples={("prod", p.name): sample for p in pods})
    (left,) = sight.leaving[CHAT]
    assert (left.name, left.accelerator, left.accelerators_per_replica, left.leaving) == ("int4", "h100", 2, True)
    state = sight.deployments[CHAT].tiers["int4"]
    assert isinstance(state.reading, TierReading)
    assert (state.ready, state.reading.running) == (3, 9.0)
    use = sight.view.accelerators["h100"]
    assert (use.by_tidegate, use.by_others, sight.accelerators["h100"].capacity) == (6, 0, 8)


def test_a_removed_tier_ends_with_its_last_pod() -> None:
    assert look(cluster(workloads=(OLD, view("chat-int4", replicas=0, labels=GONE)))).leaving == {}


def test_a_tier_that_now_has_a_target_drains_its_old_pods_under_another_name() -> None:
    labels = GONE | {"tidegate.io/tier": "bf16"}
    ours = view("chat-bf16", replicas=1, labels=labels)
    before = pod("before", labels=labels, requests={"nvidia.com/gpu": 1})
    after = pod("after", labels={"app": "old"}, requests={"nvidia.com/gpu": 1})
    sight = look(cluster(before, after, workloads=(OLD, ours)))
    assert [tier.name for tier in sight.leaving[CHAT]] == ["bf16-old"]
    assert {name: state.ready for name, state in sight.deployments[CHAT].tiers.items()} == {
        "bf16": 1,
        "fp8": 0,
        "bf16-old": 1,
    }
    taken = replace(SPEC, tiers=(*SPEC.tiers, tier("bf16-old")))
    subject = cluster(before, after, workloads=(OLD, ours))
    sight = subject.look([taken], {"h100": H100}, Harvest(time_s=NOW, samples=Missing(reason="Timeout")))
    assert [tier.name for tier in sight.leaving[CHAT]] == ["bf16-old-old"], "a tier of the spec has the other name"
    adopted = replace(SPEC, tiers=(tier("bf16", target="chat-bf16"), SPEC.tiers[1]))
    subject = cluster(before, workloads=(OLD, ours))
    assert subject.look([adopted], {"h100": H100}, Harvest(time_s=NOW, samples={})).leaving == {}, (
        "it points at our own"
    )


def test_the_pods_of_a_group_hold_accelerators_for_their_leader() -> None:
    """A LeaderWorkerSet's /scale selects only the leaders."""
    index = "leaderworkerset.sigs.k8s.io/worker-index"
    group = [pod(f"old-{i}", labels={"app": "old", index: str(i)}, requests={"nvidia.com/gpu": 2}) for i in range(2)]
    subject = cluster(*group, workloads=(view("old", replicas=1, selector=f"app=old,{index}=0"),))
    sight = look(subject)
    assert sight.deployments[CHAT].tiers["bf16"].ready == 1
    use = sight.view.accelerators["h100"]
    assert (use.by_tidegate, use.by_others) == (4, 0)


def test_yesterdays_pods_are_found_by_their_workload() -> None:
    subject = cluster(
        workloads=(view("chat-fp8", replicas=1, labels=OURS), view("old", replicas=1, selector="app=old"))
    )
    assert subject.owners([SPEC]) == {("prod", "chat-fp8"): CHAT, ("prod", "old"): CHAT}


# --- other kinds -------------------------------------------------------------------------------------------------

LWS = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
GROUP = "/apis/leaderworkerset.x-k8s.io/v1"
PATH = f"{GROUP}/leaderworkersets"
REF = ObjectRef(api_version=LWS[0], kind=LWS[1], namespace="prod", name="big")
SCALE = f"{GROUP}/namespaces/prod/leaderworkersets/big/scale"


def lws(version: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "prod", "name": "big", "uid": "u", "resourceVersion": version}, "spec": {}}


def api_with_lws() -> ScriptedApi:
    api = ScriptedApi()
    names = ["leaderworkersets", "leaderworkersets/scale", "leaderworkersets/status"]
    api.answers["GET", GROUP] = {"resources": [{"name": n, "kind": "LeaderWorkerSet"} for n in names]}
    api.answers["GET", PATH] = {"items": [lws("1")], "metadata": {"resourceVersion": "1"}}
    api.answers["GET", SCALE] = {"spec": {"replicas": 2}, "status": {"selector": "leader=big"}}
    return api


@asynccontextmanager
async def watching(api: ScriptedApi) -> AsyncIterator[KindWatch]:
    watch = KindWatch(api, LWS, namespace=None, clock=Clock())
    watch.want(frozenset({REF}))
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_any_kind_with_a_scale_subresource_can_be_a_target() -> None:
    async with watching(api_with_lws()) as watch:
        await until(lambda: watch.get(REF) is not None)
        found = watch.get(REF)
        assert found is not None
        assert (found.replicas, found.selector, found.path) == (2, "leader=big", SCALE.removesuffix("/scale"))


async def test_a_target_may_have_any_shape_if_it_has_a_scale_subresource() -> None:
    api = api_with_lws()
    odd = {"metadata": lws("1")["metadata"], "spec": {"selector": "app=x"}, "status": {"conditions": {"Ready": "yes"}}}
    api.answers["GET", PATH] = {"items": [odd], "metadata": {"resourceVersion": "1"}}
    async with watching(api) as watch:
        await until(lambda: watch.get(REF) is not None)
        assert watch.informer is not None
        assert watch.informer.unreadable == set()


async def test_an_unreadable_object_does_not_count_as_deleted() -> None:
    api = api_with_lws()
    odd = {"metadata": {**lws("1")["metadata"], "ownerReferences": ["x"]}}
    other = {"metadata": {**lws("1")["metadata"], "name": "other"}}
    api.answers["GET", PATH] = {"items": [odd, other], "metadata": {"resourceVersion": "1"}}
    async with watching(api) as watch:
        await until(lambda: watch.informer is not None and watch.informer.synced)
        assert watch.informer is not None
        assert watch.informer.items.keys() == {("prod", "other")}
        assert not watch.knows(REF)


@pytest.mark.parametrize("kind", kinds.BUILT_IN)
async def test_a_refused_list_does_not_remove_serving_workloads(kind: kinds.Kind) -> None:
    api, path = ScriptedApi(), kinds.collection_path(kind[0], kinds.BUILT_IN[kind], None)
    refusal = ApiError(status=403, reason="Forbidden", detail="clusterrole not found")
    api.answers["GET", path] = {"items": [lws("1")], "metadata": {"resourceVersion": "1"}}
    watch = KindWatch(api, kind, namespace=None, clock=Clock())
    informer = watch.informer
    assert informer is not None
    assert await informer._after(refusal) > 0.0
    assert not watch.synced
    await informer._list()
    await informer._after(refusal)
    assert [view.ref.name for view in watch.items()] == ["big"]


async def test_scale_is_read_once_per_change_of_the_object() -> None:
    api = api_with_lws()
    async with watching(api) as watch:
        await until(lambda: watch.get(REF) is not None)
        api.answers["GET", SCALE] = {"spec": {"replicas": 5}, "status": {"selector": "leader=big"}}
        api.events(PATH).put_nowait({"type": "MODIFIED", "object": lws("2")})
        await until(lambda: (w := watch.get(REF)) is not None and w.replicas == 5)
        api.events(PATH).put_nowait({"type": "BOOKMARK", "object": lws("3")})
        await until(lambda: api.events(PATH).empty())
    assert [c.path for c in api.calls].count(SCALE) == 2


@pytest.mark.parametrize("away", ["nobody points at it", "it is deleted"])
async def test_a_scale_read_before_its_object_was_away_is_dropped(away: str) -> None:
    """A week ago it had two replicas; now it has five, which is unknown until its /scale is read again."""
    api = api_with_lws()
    async with watching(api) as watch:
        await until(lambda: watch.get(REF) is not None)
        informer = watch.informer
        assert informer is not None
        if away == "it is deleted":
            api.events(PATH).put_nowait({"type": "DELETED", "object": lws("2")})
        else:
            watch.want(frozenset())
        await until(lambda: not watch._scales)
        assert not watch._read, "nor is it kept"
        gate = asyncio.Event()

        async def slow(_: Call) -> dict[str, Any]:
            await gate.wait()
            return {"spec": {"replicas": 5}, "status": {"selector": "leader=big"}}

        api.answers["GET", SCALE] = slow
        watch.want(frozenset({REF}))
        api.events(PATH).put_nowait({"type": "ADDED", "object": lws("3")})
        await until(lambda: informer.items.get(("prod", "big"), ("",))[0] == "3")
        assert watch.get(REF) is None
        assert not watch.knows(REF)
        gate.set()
        await until(lambda: (w := watch.get(REF)) is not None and w.replicas == 5)


async def test_a_scale_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "RETRY_S", 0.001)
    api = api_with_lws()
    api.answers["GET", SCALE] = [down(), {"spec": {"replicas": 2}, "status": {"selector": "leader=big"}}]
    async with watching(api) as watch:
        async with asyncio.timeout(5):
            while watch.get(REF) is None:
                await asyncio.sleep(0.001)


async def test_a_missing_kind_does_not_block_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "RETRY_S", 0.001)
    api = api_with_lws()
    installed = api.answers.pop(("GET", GROUP))
    async with watching(api) as watch:
        assert watch.synced
        await until(lambda: watch.knows(REF))
        assert watch.get(REF) is None
        api.answers["GET", GROUP] = installed
        async with asyncio.timeout(5):
            while watch.get(REF) is None:
                await asyncio.sleep(0.001)


async def test_a_kind_that_no_tier_points_at_any_more_is_not_watched() -> None:
    api = api_with_lws()
    pointing = replace(SPEC.tiers[0], target_ref=TargetRef(api_version=LWS[0], kind=LWS[1], name="big"))
    subject = Cluster(api, Roster(window_s=60.0, stale_s=60.0), clock=Clock())
    running = asyncio.create_task(subject.run())
    await asyncio.sleep(0)
    for spec in (replace(SPEC, tiers=(pointing,)), SPEC, replace(SPEC, tiers=(pointing,))):
        subject.follow([spec])
        assert (LWS in subject.kinds) == (spec is not SPEC)
        await until(lambda: LWS not in subject.kinds or subject.kinds[LWS].get(REF) is not None)
    subject.follow([])
    await until(lambda: not any("leaderworkerset" in task.get_name().lower() for task in asyncio.all_tasks()))
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_a_kind_that_the_server_cannot_list_does_not_make_the_caches_look_dead() -> None:
    api = api_with_lws()
    api.answers["GET", PATH] = ApiError(status=500, reason="InternalError", detail="conversion webhook failed")
    pointing = replace(SPEC.tiers[0], target_ref=TargetRef(api_version=LWS[0], kind=LWS[1], name="big"))
    clock = Clock()
    subject = Cluster(api, Roster(window_s=60.0, stale_s=60.0), clock=clock)
    running = asyncio.create_task(subject.run())
    await asyncio.sleep(0)
    subject.follow([replace(SPEC, tiers=(pointing,))])
    await until(lambda: any(call.path == PATH for call in api.calls))
    clock.now_s += 1000.0
    assert subject.kinds[LWS].informer is not None
    assert subject.kinds[LWS].informer.age_s() == 1000.0
    subject.pods.synced, subject.pods.seen_s = True, clock() - 30.0
    assert subject.age_s() == 30.0
    running.cancel()
    await asyncio.wait({running})


async def test_replicas_that_have_not_been_seen_yet_are_not_zero() -> None:
    api = api_with_lws()
    gate = asyncio.Event()

    async def slow(_: Call) -> dict[str, Any]:
        await gate.wait()
        return {"spec": {"replicas": 5}, "status": {"selector": "leader=big"}}

    api.answers["GET", SCALE] = slow
    spec = replace(
        SPEC, tiers=(replace(SPEC.tiers[0], target_ref=TargetRef(api_version=LWS[0], kind=LWS[1], name="big")),)
    )
    subject = Cluster(api, Roster(window_s=60.0, stale_s=60.0), clock=Clock())

    def seen() -> bool:
        return CHAT in subject.look([spec], {}, Harvest(time_s=NOW, samples={})).deployments

    async with watching(api) as watch:
        subject.kinds[LWS] = watch
        assert not seen(), "the kind has not been looked for"
        await until(lambda: any(call.path == SCALE for call in api.calls))
        assert not seen(), "its /scale has not answered"
        gate.set()
        await until(seen)
        assert subject.look([spec], {}, Harvest(time_s=NOW, samples={})).deployments[CHAT].tiers["bf16"].starting == 5


async def test_a_scale_that_was_refused_temporarily_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "RETRY_S", 0.001)
    api = api_with_lws()
    refusal = ApiError(status=403, reason="Forbidden", detail="no")
    api.answers["GET", SCALE] = [refusal, {"spec": {"replicas": 2}, "status": {"selector": "leader=big"}}]
    async with watching(api) as watch, asyncio.timeout(5):
        while watch.get(REF) is None:
            await asyncio.sleep(0.001)


async def test_a_forbidden_scale_is_logged_and_does_not_block_planning(caplog: pytest.LogCaptureFixture) -> None:
    api = api_with_lws()
    api.answers["GET", SCALE] = ApiError(status=403, reason="Forbidden", detail="no")
    async with watching(api) as watch:
        await until(lambda: watch.knows(REF))
        assert watch.get(REF) is None
    assert "cannot be scaled" in caplog.text


async def test_a_kind_without_a_scale_subresource_cannot_be_a_target() -> None:
    api = api_with_lws()
    api.answers["GET", GROUP] = {"resources": [{"name": "leaderworkersets", "kind": "LeaderWorkerSet"}]}
    assert await kinds.find_plural(api, LWS) is None


def test_kinds_of_the_core_group_are_under_api() -> None:
    assert kinds.collection_path("v1", "pods", "prod") == "/api/v1/namespaces/prod/pods"
    assert kinds.collection_path("apps/v1", "deployments", None) == "/apis/apps/v1/deployments"


def test_the_specs_of_other_deployments_do_not_matter() -> None:
    other = replace(SPEC, key=Key("prod", "code"), tiers=(tier("fp8"),))
    sight = cluster(pod("new", labels=OURS)).look([other], {}, Harvest(time_s=NOW, samples={}))
    assert sight.deployments[other.key].tiers["fp8"].ready == 0


@pytest.mark.parametrize(
    ("down_s", "ready_s", "counted"),
    [
        pytest.param(NOW - 30, None, (0, 1, 1), id="for two ticks"),
        pytest.param(NOW - 29, None, (0, 1, 0), id="for a moment"),
        pytest.param(NOW - 90, NOW - 500, (1, 0, 0), id="but it serves"),
        pytest.param(None, None, (0, 1, 0), id="the node is fine"),
    ],
)
def test_a_replica_is_lost_if_its_node_is_not_ready(
    down_s: float | None, ready_s: float | None, counted: tuple[int, int, int]
) -> None:
    subject = cluster(pod("new", labels=OURS, ready_s=ready_s), workloads=(view("chat-fp8", replicas=1, labels=OURS),))
    subject.nodes.items["", "n"] = replace(subject.nodes.items["", "n"], usable=False, down_s=down_s)
    seen = look(subject).deployments[CHAT].tiers["fp8"]
    assert (seen.ready, seen.starting, seen.lost) == counted
    assert seen.trouble == ("node n is not ready" if seen.lost else "")


def test_a_tier_knows_how_many_of_its_replicas_the_nodes_can_hold() -> None:
    others = pod("training", labels={"app": "training"}, requests={"nvidia.com/gpu": 5})
    wide = replace(SPEC, tiers=(replace(tier("bf16"), accelerators_per_replica=2), tier("fp8")))
    subject = cluster(others, workloads=(view("chat-fp8", replicas=0, labels=OURS),))
    subject.nodes.items |= {("", "m"): NodeView(name="m", labels={}, allocatable={"nvidia.com/gpu": 1}, usable=True)}
    sight = subject.look([wide], {"h100": H100}, Harvest(time_s=NOW, samples=Missing(reason="Timeout")))
    assert sight.accelerators["h100"].capacity == 4
    states = sight.deployments[CHAT].tiers
    assert (states["bf16"].placeable, states["fp8"].placeable) == (1, None)
