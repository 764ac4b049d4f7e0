"""
The objects of a deployment: created, changed, and removed when they are no longer needed.

In:    a `Scene`.
Out:   chains of writes by object, and findings.
Rules: pure. An object that carries the hash of its manifest is right.

A new Deployment starts with 0 replicas, although Kubernetes starts one if `replicas` is left out: it is applied with 0,
another field manager takes over that 0, and it is applied again without the field. From then on only /scale changes it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tidegate.actuate.findings import stalled
from tidegate.actuate.manifests import HASH_ANNOTATION, Manifest, path_of, shared_refs
from tidegate.actuate.ownership import INITIAL_MANAGER
from tidegate.actuate.scene import Chain, Scene, Write
from tidegate.domain.decision import Condition
from tidegate.domain.spec import TierSpec
from tidegate.ports import APPLY_PATCH, FIELD_MANAGER, Call, ObjectRef, workload_ref


def builds(scene: Scene) -> tuple[dict[ObjectRef, Chain], list[Condition]]:
    """What makes each object as it should be, and findings about names that are taken."""
    chains: dict[ObjectRef, Chain] = {}
    taken: list[Condition] = []
    for manifest in scene.manifests:
        if scene.is_foreign(manifest.ref):
            taken.append(_name_taken(manifest.ref, scene))
        elif not scene.settles(manifest.path) and (chain := tuple(_build(manifest, scene))):
            chains[manifest.ref] = chain
    return chains, taken


def retired(scene: Scene) -> Iterator[Chain]:
    """
    Remove Deployments of tiers that are gone or now point at a target, and in the end Service and PodMonitor.

    A Deployment stays as long as the plan knows its tier, because terminating pods still hold accelerators. If the plan
    does not know the tier, its pods serve until the remaining tiers have as many ready replicas as were decided.
    """
    if not scene.owned and not scene.manifests:
        yield from _unshared(scene)
    if any(scene.decided(tier.name) is None for tier in scene.spec.tiers):
        return
    for workload in scene.unwanted:
        known = scene.decided(scene.left_tier(workload)) is not None
        if not known and not (workload.replicas and any(_short(scene, tier) for tier in scene.spec.tiers)):
            yield _removal(workload.ref, workload.path, workload.uid, "no tier uses it any more")


def _unshared(scene: Scene) -> Iterator[Chain]:
    """Remove Service and PodMonitor once the deployment has no pods of ours."""
    for ref in shared_refs(scene.spec):
        there = scene.order.view.owned.get(ref)
        if there is not None and not scene.is_foreign(ref) and not scene.settles(path_of(ref)):
            yield _removal(ref, path_of(ref), there.uid, "no tier has managed pods any more")


def _removal(ref: ObjectRef, path: str, uid: str, why: str) -> Chain:
    body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
    return (Write(call=Call(method="DELETE", path=path, body=body), sentence=f"{ref}: removed, {why}"),)


def _build(manifest: Manifest, scene: Scene) -> Iterator[Write]:
    ref = manifest.ref
    if ref.kind != "Deployment":
        there = scene.order.view.owned.get(ref)
        if there is None:
            yield Write(call=_apply(manifest, force=False), sentence=f"{ref}: created")
        elif there.annotations.get(HASH_ANNOTATION) != manifest.hash:
            yield Write(call=_apply(manifest), sentence=f"{ref}: updated")
        return
    workload = scene.workload(ref)
    if workload is None:
        yield Write(call=_first_apply(manifest), sentence=f"{ref}: created")
        yield Write(call=_hold_replicas(manifest, 0))
        yield Write(call=_apply(manifest))
    elif workload.annotations.get(HASH_ANNOTATION) != manifest.hash:
        if any(writer.manager == FIELD_MANAGER and writer.operation == "Apply" for writer in workload.writers):
            yield Write(call=_hold_replicas(manifest, workload.replicas))  # its creation was interrupted
        yield Write(call=_apply(manifest), sentence=f"{ref}: pod template updated")
    elif scene.is_changed(workload):
        yield Write(call=_apply(manifest), sentence=f"{ref}: reverted a change by somebody else")


def _apply(manifest: Manifest, *, force: bool = True) -> Call:
    """Server-side apply. Without `force`, an object of that name that somebody else created is a conflict."""
    return Call(
        method="PATCH",
        path=manifest.path,
        params={"fieldManager": FIELD_MANAGER, "force": str(force).lower()},
        body=manifest.body,
        content_type=APPLY_PATCH,
    )


def _first_apply(manifest: Manifest) -> Call:
    """The Deployment with 0 replicas, and without the hash, because it is not complete yet."""
    body: dict[str, Any] = dict(manifest.body)
    body["spec"] = body["spec"] | {"replicas": 0}
    body["metadata"] = {name: value for name, value in body["metadata"].items() if name != "annotations"}
    return replace(_apply(manifest, force=False), body=body)


def _hold_replicas(manifest: Manifest, replicas: int) -> Call:
    """Make another field manager own the replicas, so that applying a body without them does not change them."""
    ref = manifest.ref
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return Call(
        method="PATCH",
        path=manifest.path,
        params={"fieldManager": INITIAL_MANAGER, "force": "false"},  # somebody who scaled it meanwhile is right
        body={"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "spec": {"replicas": replicas}},
        content_type=APPLY_PATCH,
    )


def _name_taken(ref: ObjectRef, scene: Scene) -> Condition:
    if scene.is_orphan(ref):
        cure = "was created by Tidegate but has lost its owner: make this InferenceDeployment its owner, or delete it"
    else:
        cure = "exists but was not created by this InferenceDeployment: rename one of them, or the tier"
    return stalled("NameTaken", f"{ref} {cure}")


def _short(scene: Scene, tier: TierSpec) -> bool:
    workload = scene.workload(workload_ref(scene.spec.key, tier))
    return (scene.decided(tier.name) or 0) > (workload.ready if workload is not None else 0)
