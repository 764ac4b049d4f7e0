"""
What is written for an order, and what is left alone.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.actuate.orders import (
    H100,
    KEY,
    NOW_S,
    OURS,
    UID,
    decided,
    managed,
    order_of,
    pointing,
    ref,
    resource_of,
    scene_of,
    settled,
    spec_of,
    view_of,
    workload,
)
from tidegate.actuate.manifests import HASH_ANNOTATION, wanted
from tidegate.actuate.moves import urgency
from tidegate.actuate.ownership import HOLD_S, rivals, taken
from tidegate.actuate.steps import Steps, steps
from tidegate.domain.decision import TierDecision
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec, Mode
from tidegate.errors import SpecError
from tidegate.ports import ClusterView, OwnedView, Writer

TWO = spec_of(managed("bf16"), managed("fp8"))


def calls(found: Steps) -> list[tuple[str, str]]:
    return [(write.call.method, write.call.path.rsplit("/namespaces/prod/")[1]) for c in found.chains for write in c]


def sentences(found: Steps) -> list[str]:
    return [write.sentence for chain in found.chains for write in chain if write.sentence]


def reasons(found: Steps) -> list[tuple[str, str]]:
    return [(c.type, c.reason) for c in found.conditions]


def do(spec: DeploymentSpec, view: ClusterView, status: dict[str, Any] | None = None, **replicas: int) -> Steps:
    return steps(scene_of(order_of(spec, view, decided(**replicas), status=status)))


def test_on_an_empty_cluster_everything_is_made_before_it_is_scaled() -> None:
    found = do(TWO, ClusterView(), bf16=0, fp8=3)
    assert calls(found) == [
        ("PATCH", "services/chat"),
        ("PATCH", "deployments/chat-fp8"),
        ("PATCH", "deployments/chat-fp8"),
        ("PATCH", "deployments/chat-fp8"),
        ("PATCH", "deployments/chat-fp8/scale"),
        ("PATCH", "deployments/chat-bf16"),
        ("PATCH", "deployments/chat-bf16"),
        ("PATCH", "deployments/chat-bf16"),
    ]


@pytest.mark.parametrize(
    ("there", "replicas", "number"),
    [
        pytest.param({"bf16": 2, "fp8": 4}, {"bf16": 3, "fp8": 0}, 0, id="one grows while another shrinks"),
        pytest.param({"bf16": 2, "fp8": 4}, {"bf16": 2, "fp8": 3}, 1, id="one shrinks"),
        pytest.param({"bf16": 2, "fp8": 4}, {"bf16": 2, "fp8": 4}, 2, id="at rest"),
        pytest.param({"bf16": 2}, {"bf16": 2, "fp8": 3}, 2, id="one is created"),
        pytest.param({"bf16": 2, "fp8": 4}, {}, 2, id="nothing was decided"),
    ],
)
def test_what_adds_replicas_is_most_urgent(there: dict[str, int], replicas: dict[str, int], number: int) -> None:
    view = view_of(*[workload(f"chat-{tier}", count) for tier, count in there.items()])
    assert urgency(order_of(TWO, view, decided(**replicas) if replicas else None)) == number


def test_a_new_deployment_starts_with_no_replica_and_releases_the_field() -> None:
    found = do(spec_of(managed()), ClusterView(), bf16=2)
    first, hold, last, scale = next(chain for chain in found.chains if len(chain) == 4)
    assert first.call.body["spec"]["replicas"] == 0  # type: ignore[call-overload,index]
    assert HASH_ANNOTATION not in str(first.call.body)
    assert hold.call.params["fieldManager"] == "tidegate-initial"
    assert hold.call.body["spec"] == {"replicas": 0}  # type: ignore[call-overload,index]
    assert "replicas" not in last.call.body["spec"]  # type: ignore[call-overload,index]
    assert HASH_ANNOTATION in str(last.call.body)
    assert scale.call.body == [
        {"op": "test", "path": "/spec", "value": {}},
        {"op": "add", "path": "/spec/replicas", "value": 2},
    ]


def test_nothing_is_written_if_everything_is_right() -> None:
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 1})
    assert do(TWO, view, bf16=2, fp8=1) == Steps(rests={"bf16": 2, "fp8": 1})


def test_replicas_are_never_in_an_applied_body() -> None:
    for manifest in wanted(resource_of(TWO), {"nvidia-h100": H100}, pod_monitor={}):
        assert "replicas" not in manifest.body["spec"]


def test_the_same_spec_gives_the_same_bytes() -> None:
    first, second = (wanted(resource_of(TWO), {"nvidia-h100": H100}, pod_monitor={}) for _ in range(2))
    assert [m.hash for m in first] == [m.hash for m in second]
    assert len({m.hash for m in first}) == 4


def test_scale_ups_come_before_scale_downs() -> None:
    view = settled(resource_of(TWO), {"bf16": 5, "fp8": 1})
    assert sentences(do(TWO, view, bf16=2, fp8=4)) == [
        "Deployment prod/chat-fp8: replicas 1 -> 4",
        "Deployment prod/chat-bf16: replicas 5 -> 2",
    ]


def test_a_changed_spec_is_applied_and_its_replicas_stay() -> None:
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 1})
    other = spec_of(managed("bf16", args=("--max-model-len", "4096")), managed("fp8"))
    found = do(other, view, bf16=2, fp8=1)
    assert sentences(found) == ["Deployment prod/chat-bf16: pod template updated"]
    assert calls(found) == [("PATCH", "deployments/chat-bf16")]


def test_an_interrupted_creation_is_completed_without_starting_a_replica() -> None:
    half = Writer(manager="tidegate", operation="Apply", time="")
    view = settled(resource_of(TWO), {"bf16": 0, "fp8": 1})
    mended = replace(view.workloads[ref("chat-bf16")], annotations={}, writers=(half,))
    view = replace(view, workloads={**view.workloads, mended.ref: mended})
    found = do(TWO, view, bf16=0, fp8=1)
    hold, apply = found.chains[0]
    assert hold.call.params["fieldManager"] == "tidegate-initial"
    assert hold.call.body["spec"] == {"replicas": 0}  # type: ignore[call-overload,index]
    assert "replicas" not in apply.call.body["spec"]  # type: ignore[call-overload,index]


@pytest.mark.parametrize("installed", [True, False], ids=["where PodMonitors exist", "where they do not"])
def test_a_pod_monitor_is_made(installed: bool) -> None:
    found = do(TWO, ClusterView(has_pod_monitors=installed), bf16=0, fp8=0)
    assert (("PATCH", "podmonitors/chat") in calls(found)) == installed


def test_a_scale_holds_only_for_the_replicas_that_were_seen() -> None:
    found = do(spec_of(pointing()), view_of(workload("chat-old", 2)), fp8=8)
    ((scale,),) = found.chains
    assert isinstance(scale.call.body, list)
    assert scale.call.body[0] == {"op": "test", "path": "/spec", "value": {"replicas": 2}}


def test_a_target_gets_nothing_but_its_scale() -> None:
    view = view_of(workload("chat-old", 1, writers=(OURS,)))
    found = do(spec_of(pointing()), view, fp8=3)
    assert calls(found) == [("PATCH", "deployments/chat-old/scale")]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(TWO, mode=Mode.RECOMMEND), id="mode Recommend"),
        pytest.param(replace(TWO, mode=Mode.OFF), id="mode Off"),
        pytest.param(replace(TWO, paused=True), id="paused"),
    ],
)
def test_nothing_is_written_in(spec: DeploymentSpec) -> None:
    assert do(spec, ClusterView(), bf16=1, fp8=1) == Steps()


def test_without_a_decision_only_the_objects_are_maintained() -> None:
    found = steps(scene_of(order_of(TWO, ClusterView(), None)))
    assert not [path for _, path in calls(found) if path.endswith("/scale")]
    assert ("PATCH", "services/chat") in calls(found)


def test_a_target_that_is_not_there_is_reported() -> None:
    found = do(spec_of(pointing()), ClusterView(), fp8=1)
    assert reasons(found) == [("Stalled", "TargetNotFound")]
    assert found.chains == ()


def test_a_missing_target_stops_its_own_tier_only() -> None:
    view = view_of(workload("chat-bf16", 1, owner_uids=(UID,)))
    found = do(spec_of(managed(), pointing()), view, bf16=2, fp8=1)
    assert ("ConfigurationWarning", "TargetNotFound") in reasons(found)
    assert "Stalled" not in {kind for kind, _ in reasons(found)}
    assert ("PATCH", "deployments/chat-bf16/scale") in calls(found)


def test_a_name_that_is_taken_is_not_taken_over() -> None:
    view = view_of(workload("chat-bf16", 3, owner_uids=("somebody",)))
    found = do(spec_of(managed()), view, bf16=1)
    assert reasons(found) == [("Stalled", "NameTaken")]
    assert calls(found) == [("PATCH", "services/chat")]


@pytest.mark.parametrize(
    ("owners", "annotations", "cure"),
    [
        pytest.param((), {HASH_ANNOTATION: "h"}, "has lost its owner", id="restored from a backup, or orphaned"),
        pytest.param((), {}, "rename one of them", id="a Deployment of somebody's own"),
        pytest.param(("another",), {HASH_ANNOTATION: "h"}, "rename one of them", id="made for another deployment"),
    ],
)
def test_how_a_name_is_got_back(owners: tuple[str, ...], annotations: dict[str, str], cure: str) -> None:
    view = view_of(workload("chat-bf16", 3, owner_uids=owners, annotations=annotations))
    found = do(spec_of(managed()), view, bf16=1)
    assert reasons(found) == [("Stalled", "NameTaken")]
    assert cure in found.conditions[0].message


def test_a_service_that_somebody_else_made_is_a_conflict_and_not_overwritten() -> None:
    found = do(TWO, ClusterView(), bf16=0, fp8=0)
    assert [chain[0].call.params["force"] for chain in found.chains] == ["false"] * 3


def test_a_target_that_another_deployment_made_is_reported() -> None:
    labels = {"tidegate.io/inference-deployment": "code"}
    view = view_of(workload("chat-old", 3, labels=labels, owner_uids=("uid-of-code",)))
    assert reasons(do(spec_of(pointing()), view, fp8=1)) == [("Stalled", "TargetTaken")]


def test_a_tier_whose_class_is_unknown_has_no_deployment_yet() -> None:
    order = replace(order_of(spec_of(managed()), ClusterView(), decided(bf16=1)), accelerators={})
    assert calls(steps(scene_of(order))) == [("PATCH", "services/chat")]


# Other writers


def at(seconds_ago: float, manager: str = "kubectl") -> Writer:
    time = datetime.fromtimestamp(NOW_S - seconds_ago, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Writer(manager=manager, operation="Update", time=time)


ASKED = {"observedGeneration": 1, "tiers": [{"name": "fp8", "desired": 9, "asked": 2}]}
# The plan that was only shown (mode Recommend), or whose first write failed.
PLANNED = {"observedGeneration": 1, "tiers": [{"name": "fp8", "desired": 2}]}
ELSEWHERE = {**ASKED, "observedGeneration": 0}


@pytest.mark.parametrize(
    ("writer", "replicas", "status", "held"),
    [
        pytest.param(at(60), 5, ASKED, True, id="a person scaled by hand a minute ago"),
        pytest.param(at(HOLD_S + 1), 5, ASKED, False, id="a person scaled by hand long ago"),
        pytest.param(at(60), 2, ASKED, False, id="a person set what we wanted anyway"),
        pytest.param(at(60, "kubectl-client-side-apply"), 5, ASKED, True, id="a manifest was applied a minute ago"),
        pytest.param(at(60, "argocd-controller"), 5, ASKED, True, id="Argo CD set it a minute ago"),
        pytest.param(at(86_400, "argocd-controller"), 5, ASKED, True, id="Argo CD set it long ago, and would again"),
        pytest.param(at(60, "argocd-controller"), 5, {}, False, id="Argo CD set it before we came"),
        pytest.param(at(60, "argocd-controller"), 5, PLANNED, False, id="Argo CD set it before we first wrote"),
        pytest.param(at(60, "argocd-controller"), 5, ELSEWHERE, False, id="another spec's workload was asked for"),
        pytest.param(OURS, 5, ASKED, False, id="we set it ourselves"),
        pytest.param(at(60), 5, {}, False, id="it was so when we came"),
        pytest.param(replace(at(60), time=""), 5, ASKED, True, id="nobody knows when, so it counts from now"),
    ],
)
def test_another_writer_is_respected_for_a_while(
    writer: Writer, replicas: int, status: dict[str, Any], held: bool
) -> None:
    view = view_of(workload("chat-old", replicas, writers=(writer,)))
    found = do(spec_of(pointing()), view, status, fp8=3)
    assert (reasons(found) == [("ScalingLimited", "OtherWriter")]) == held
    assert (found.chains == ()) == held


def test_replicas_set_by_a_pipeline_do_not_count_as_asked() -> None:
    view = view_of(workload("chat-old", 5, writers=(at(60, "argocd-controller"),)))
    assert do(spec_of(pointing()), view, ASKED, fp8=5).rests == {}
    assert do(spec_of(pointing()), view, fp8=5).rests == {"fp8": 5}


def test_a_pin_outranks_scaling_by_hand() -> None:
    view = view_of(workload("chat-old", 5, writers=(at(60),)))
    found = do(spec_of(pointing(), replicas_pinned=3), view, ASKED, fp8=3)
    assert sentences(found) == ["Deployment prod/chat-old: replicas 5 -> 3"]


def test_the_last_of_several_writers_counts() -> None:
    """An old manifest may still own the field if somebody has since scaled to the same number."""
    writers = (at(86_400, "kubectl-client-side-apply"), at(60))
    view = view_of(workload("chat-old", 5, writers=writers))
    found = do(spec_of(pointing()), view, ASKED, fp8=3)
    assert reasons(found) == [("ScalingLimited", "OtherWriter")]
    assert found.chains == ()


def test_replicas_that_we_set_are_ours_although_a_pipeline_has_set_the_same_since() -> None:
    """The last leader scaled to 5 and ended before the status told it."""
    view = view_of(workload("chat-old", 5, writers=(at(90, "tidegate"), at(60, "argocd-controller"))))
    assert sentences(do(spec_of(pointing()), view, ASKED, fp8=3)) == ["Deployment prod/chat-old: replicas 5 -> 3"]


def test_the_finding_names_who_what_and_until_when() -> None:
    view = view_of(workload("chat-old", 5, writers=(at(60),)))
    (finding,) = do(spec_of(pointing()), view, ASKED, fp8=3).conditions
    assert finding.message.startswith("kubectl scale set Deployment prod/chat-old to 5 replicas instead of 2")


@pytest.mark.parametrize("kind", ["HorizontalPodAutoscaler", "ScaledObject"])
def test_an_autoscaler_owns_the_replicas_as_long_as_it_exists(kind: str) -> None:
    view = view_of(workload("chat-old", 5, writers=(OURS,)), scalers={ref("chat-old"): (ref("x", kind),)})
    found = do(spec_of(pointing()), view, ASKED, fp8=3)
    assert reasons(found) == [("ScalingLimited", "OtherAutoscaler")]
    assert kind in found.conditions[0].message
    assert found.chains == ()


def test_one_tier_that_is_held_does_not_hold_the_others() -> None:
    spec = spec_of(pointing("fp8", "a"), pointing("bf16", "b"))
    view = view_of(workload("a", 5, writers=(at(60),)), workload("b", 1, writers=(OURS,)))
    assert sentences(do(spec, view, ASKED, fp8=3, bf16=2)) == ["Deployment prod/b: replicas 1 -> 2"]


def test_the_first_of_two_deployments_with_one_target_keeps_it() -> None:
    spec = spec_of(pointing())
    first = resource_of(spec, created="2026-11-01T00:00:00Z")
    second = replace(
        resource_of(replace(spec, key=Key("prod", "a-later"))),
        key=Key("prod", "a-later"),
        created="2026-11-02T00:00:00Z",
    )
    elsewhere = replace(second, key=Key("dev", "chat"), spec=replace(spec, key=Key("dev", "chat")))
    found = rivals([second, first, elsewhere], {})
    assert list(taken([second, first, elsewhere], {})) == list(found)
    assert set(found) == {Key("prod", "a-later")}
    assert found[Key("prod", "a-later")].reason == "DuplicateTarget"
    assert str(KEY) in found[Key("prod", "a-later")].message


def test_an_invalid_spec_keeps_its_target() -> None:
    spec = spec_of(pointing())
    later = Key("prod", "a-later")
    wrong = replace(
        resource_of(spec, created="2026-11-01T00:00:00Z"), spec=SpecError(field="model", value="", allowed="a name")
    )
    second = replace(resource_of(replace(spec, key=later)), key=later, created="2026-11-02T00:00:00Z")
    assert set(rivals([wrong, second], {KEY: spec, later: replace(spec, key=later)})) == {later}
    assert rivals([wrong, second], {later: replace(spec, key=later)}) == {}, "it never had a valid one"


# What nobody wants any more


def retired(ready: int, *, replicas: int = 2) -> Steps:
    """Tier bf16 was removed from the spec, and the plan does not know its pods."""
    view = settled(resource_of(TWO), {"bf16": replicas, "fp8": 2})
    serving = replace(view.workloads[ref("chat-fp8")], ready=ready)
    view = replace(view, workloads={**view.workloads, serving.ref: serving})
    return do(spec_of(managed("fp8")), view, fp8=2)


def test_a_removed_tiers_deployment_is_deleted_once_the_others_serve() -> None:
    assert calls(retired(2)) == [("DELETE", "deployments/chat-bf16")]


def test_a_removed_tier_serves_until_the_others_do() -> None:
    assert calls(retired(1)) == []


def leaving(stays: int, *, replicas: int = 2) -> Steps:
    """Tier bf16 was removed from the spec, and the plan wants that many of its replicas for now."""
    view = settled(resource_of(TWO), {"bf16": replicas, "fp8": 2})
    return do(spec_of(managed("fp8")), view, fp8=2, bf16=stays)


def test_a_removed_tier_serves_as_long_as_the_plan_wants_it() -> None:
    assert calls(leaving(2)) == []
    assert sentences(leaving(2, replicas=5)) == ["Deployment prod/chat-bf16: replicas 5 -> 2"]
    assert calls(leaving(3)) == [], "it never grows"
    assert sentences(leaving(0)) == ["Deployment prod/chat-bf16: replicas 2 -> 0"]


def test_a_removed_tiers_deployment_is_deleted_after_its_last_pod() -> None:
    """Terminating pods hold accelerators, and without their Deployment they would count as somebody else's."""
    assert calls(leaving(0, replicas=0)) == []
    assert calls(retired(1, replicas=0)) == [("DELETE", "deployments/chat-bf16")], "who has no pod waits for nobody"


def test_a_plan_that_does_not_know_the_remaining_tiers_removes_nothing() -> None:
    """The plan was made for the previous spec, whose tier had another name."""
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 2})
    assert calls(do(spec_of(managed("fp8")), view, bf16=2)) == []


def test_a_tier_that_now_has_a_target_drains_under_another_name() -> None:
    ours = settled(resource_of(spec_of(managed("bf16"))), {"bf16": 2})
    old = workload("chat-old", 1, writers=(OURS,), ready=1)
    view = replace(ours, workloads={**ours.workloads, old.ref: old})
    spec = spec_of(pointing("bf16", "chat-old"))
    plan = replace(decided(bf16=1), tiers=dict.fromkeys(("bf16", "bf16-old"), TierDecision(replicas=1)))
    assert sentences(steps(scene_of(order_of(spec, view, plan)))) == ["Deployment prod/chat-bf16: replicas 2 -> 1"]


def test_removal_is_bound_to_the_observed_uid() -> None:
    (chain,) = retired(2).chains
    assert [write.call.body for write in chain] == [
        {"preconditions": {"uid": "uid-of-chat-bf16"}, "propagationPolicy": "Background"}
    ]


def test_without_a_decision_nothing_is_removed() -> None:
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 2})
    assert steps(scene_of(order_of(spec_of(managed("fp8")), view, None))).chains == ()


def test_replicas_that_somebody_set_on_a_new_deployment_are_kept() -> None:
    found = do(spec_of(managed()), ClusterView(), bf16=2)
    _first, hold, last, _scale = next(chain for chain in found.chains if len(chain) == 4)
    assert hold.call.params["force"] == "false"
    assert last.call.params["force"] == "true"


def test_a_deployment_that_becomes_a_target_is_not_removed() -> None:
    view = settled(resource_of(spec_of(managed("bf16"))), {"bf16": 2})
    assert calls(do(spec_of(pointing("bf16", "chat-bf16")), view, bf16=2)) == []


def only_targets(*, left: bool = False, owner: str = UID) -> Steps:
    """Both tiers were managed; now the only tier points at somebody else's workload."""
    before = settled(resource_of(TWO), {"bf16": 2, "fp8": 2}, pod_monitor=True)
    old = workload("chat-old", 1, writers=(OURS,), ready=1)
    owned = {each: replace(there, owner_uids=(owner,)) for each, there in before.owned.items()}
    ours = dict(before.workloads) if left else {}
    return do(spec_of(pointing()), replace(before, workloads={**ours, old.ref: old}, owned=owned), fp8=1)


def test_service_and_pod_monitor_are_removed_after_our_last_pod() -> None:
    assert sorted(calls(only_targets(left=True))) == [
        ("DELETE", "deployments/chat-bf16"),
        ("DELETE", "deployments/chat-fp8"),
    ]
    found = only_targets()
    assert calls(found) == [("DELETE", "services/chat"), ("DELETE", "podmonitors/chat")]
    assert [w.call.body for c in found.chains for w in c if w.call.path.endswith("services/chat")] == [
        {"preconditions": {"uid": "u"}, "propagationPolicy": "Background"}
    ]


def test_a_service_that_somebody_else_made_stays() -> None:
    assert calls(only_targets(owner="somebody")) == []


def test_a_pod_monitor_carries_the_extra_labels() -> None:
    labels = {"release": "stack", "app.kubernetes.io/managed-by": "nobody"}
    made = wanted(resource_of(TWO), {"nvidia-h100": H100}, pod_monitor=labels)
    (monitor,) = [m for m in made if m.ref.kind == "PodMonitor"]
    assert monitor.body["metadata"]["labels"]["release"] == "stack"
    assert monitor.body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tidegate", (
        "what we find it by is ours"
    )


def test_what_others_own_is_never_removed() -> None:
    view = view_of(
        workload("chat-bf16", 1, owner_uids=("somebody",)), workload("chat-old", 1, writers=(OURS,), ready=1)
    )
    assert calls(do(spec_of(pointing()), view, fp8=1)) == []


def test_a_changed_service_of_ours_is_restored() -> None:
    service = OwnedView(
        ref=ref("chat", "Service", "v1"), uid="u", annotations={HASH_ANNOTATION: "old"}, owner_uids=(UID,)
    )
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 1})
    found = do(TWO, replace(view, owned={service.ref: service}), bf16=2, fp8=1)
    assert [w.call.params["force"] for c in found.chains for w in c] == ["true"]
