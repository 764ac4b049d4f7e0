"""
Tiers that a spec no longer has, or that point elsewhere by now, while pods that were made for them still serve.

In:    the specs, the workloads that were made for them, their pods, nodes and classes.
Out:   a tier for each that may have no replica: what its pods carry, hold and cost counts until others have taken over.
Rules: pure. A tier whose accelerator class nobody can tell is left out: its pods are then somebody else's to the plan.
"""

from collections.abc import Iterable, Iterator, Mapping

from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierKey
from tidegate.observe.stock import selects
from tidegate.ports import WorkloadView, leaving_name, workload_ref


def leaving(
    specs: Iterable[DeploymentSpec], managed: Mapping[TierKey, WorkloadView]
) -> Iterator[tuple[TierKey, str, WorkloadView]]:
    """
    Deployment and the name its tier goes by, the name on its labels, and its workload.

    Args:
        managed: The workloads made for these deployments, by the tier on their labels.
    """
    by_key = {spec.key: spec for spec in specs}
    for (key, name), workload in managed.items():
        tiers = by_key[key].tiers
        has = (t.name == name if t.target_ref is None else workload_ref(key, t) == workload.ref for t in tiers)
        if not any(has):
            yield (key, leaving_name(name, [tier.name for tier in tiers])), name, workload


def tier_of(
    name: str, pods: Iterable[PodView], nodes: Mapping[tuple[str, str], NodeView], classes: Iterable[Accelerator]
) -> TierSpec | None:
    """The tier that these pods are of; None where no pod tells its class of accelerators. A node has no namespace."""
    for pod in pods:
        node = nodes.get(("", pod.node))
        if node is None or pod.ended:
            continue
        for class_ in classes:
            held = pod.requests.get(class_.resource_name, 0)
            if held and selects(class_, node):
                return TierSpec(
                    name=name,
                    quality=1.0,
                    accelerator=class_.name,
                    accelerators_per_replica=held,
                    replicas_min=0,
                    replicas_max=0,
                    leaving=True,
                )
    return None
