"""Builders of orders and clusters."""

from dataclasses import replace
from typing import Any

from tidegate.actuate.manifests import HASH_ANNOTATION, path_of, wanted
from tidegate.actuate.scene import Scene
from tidegate.actuate.stock import Stock
from tidegate.domain.decision import Decision, Reason, TierDecision
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TargetRef, TierSpec, WorkloadTemplate
from tidegate.ports import ClusterView, DeploymentResource, ObjectRef, Order, OwnedView, WorkloadView, Writer

KEY = Key("prod", "chat")
UID = "uid-of-chat"
H100 = Accelerator(
    name="nvidia-h100", price_usd_per_hour=3.0, node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
)
NOW_S = 1_795_000_000.0
CLOCK_S = 5.0
OURS = Writer(manager="tidegate", operation="Update", time="2026-11-18T00:00:00Z")


def managed(name: str = "bf16", *, image: str = "vllm/vllm-openai:v0.32.0", gpus: int = 1, **template: Any) -> TierSpec:
    return TierSpec(
        name=name,
        quality=1.0,
        accelerator="nvidia-h100",
        accelerators_per_replica=gpus,
        replicas_min=0,
        replicas_max=10,
        workload=WorkloadTemplate(image=image, **template),
    )


def pointing(name: str = "fp8", target: str = "chat-old", kind: str = "Deployment") -> TierSpec:
    return TierSpec(
        name=name,
        quality=1.0,
        accelerator="nvidia-h100",
        accelerators_per_replica=1,
        replicas_min=0,
        replicas_max=10,
        target_ref=TargetRef(api_version="apps/v1", kind=kind, name=target),
    )


def spec_of(*tiers: TierSpec, **more: Any) -> DeploymentSpec:
    return DeploymentSpec(
        key=KEY, model="org/model", slo=Slo(ttft_s=0.5, itl_s=0.04), tiers=tiers, replicas_max=20, **more
    )


def resource_of(spec: DeploymentSpec, **more: Any) -> DeploymentResource:
    return DeploymentResource(key=spec.key, uid=UID, generation=1, spec=spec, **more)


def decided(**replicas: int) -> Decision:
    tiers = {name: TierDecision(replicas=count) for name, count in replicas.items()}
    return Decision(key=KEY, tiers=tiers, reason=Reason.DEMAND_RISING, message="why")


def ref(name: str, kind: str = "Deployment", api_version: str = "apps/v1") -> ObjectRef:
    return ObjectRef(api_version=api_version, kind=kind, namespace="prod", name=name)


def workload(name: str, replicas: int, *, writers: tuple[Writer, ...] = (), **more: Any) -> WorkloadView:
    which = ref(name)
    return WorkloadView(
        ref=which, uid=f"uid-of-{name}", path=path_of(which), replicas=replicas, selector="", writers=writers, **more
    )


def view_of(*workloads: WorkloadView, owned: tuple[OwnedView, ...] = (), **more: Any) -> ClusterView:
    return ClusterView(workloads={w.ref: w for w in workloads}, owned={o.ref: o for o in owned}, **more)


def settled(resource: DeploymentResource, replicas: dict[str, int], *, pod_monitor: bool = False) -> ClusterView:
    """The cluster once everything that the deployment owns was created and scaled."""
    owned: list[OwnedView] = []
    workloads: list[WorkloadView] = []
    for manifest in wanted(resource, {"nvidia-h100": H100}, pod_monitor={} if pod_monitor else None):
        marks = {"annotations": {HASH_ANNOTATION: manifest.hash}, "owner_uids": (UID,)}
        if manifest.ref.kind == "Deployment":
            count = replicas[manifest.ref.name.removeprefix(f"{resource.key.name}-")]
            labels = manifest.body["metadata"]["labels"]
            made = workload(manifest.ref.name, count, writers=(OURS,), ready=count, labels=labels)
            workloads.append(replace(made, **marks))  # type: ignore[arg-type]
        else:
            owned.append(OwnedView(ref=manifest.ref, uid="u", **marks))  # type: ignore[arg-type]
    return view_of(*workloads, owned=tuple(owned), has_pod_monitors=pod_monitor)


def scene_of(order: Order) -> Scene:
    return Stock().scene(order, now_s=NOW_S, clock_s=CLOCK_S)


def order_of(
    spec: DeploymentSpec, view: ClusterView, decision: Decision | None, *, status: dict[str, Any] | None = None
) -> Order:
    return Order(
        resource=resource_of(spec, status=status or {}),
        decision=decision,
        view=view,
        accelerators={"nvidia-h100": H100},
    )
