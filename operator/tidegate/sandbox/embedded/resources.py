"""
The kinds that are served: the built-in ones in use, and those defined by CustomResourceDefinitions.

In:    CRDs.
Out:   a `Registry`: one `Resource` per (group, version, plural).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tidegate.sandbox.embedded.schema import Schema

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where an object has the fields of its scale subresource, as paths of field names."""

    replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ()  # a string in the status; empty: spec.selector of a built-in kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """
    One served kind.

    Args:
        group: API group; empty for the core group.
        version: Served version.
        kind: Kind.
        plural: Name in URLs.
        short_names: Short names for kubectl.
        categories: Categories for kubectl, e.g. `all`.
        namespaced: Whether objects belong to namespaces.
        status: Whether there is a status subresource.
        generation: Whether `metadata.generation` counts changes outside metadata and status.
        scale: The scale subresource; None: there is none.
        schema: The schema of a custom resource; None for built-in kinds.
        columns: `additionalPrinterColumns` of a custom resource.
    """

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = True
    generation: bool = False
    scale: Scale | None = None
    schema: Schema | None = None
    columns: tuple[dict[str, Any], ...] = ()

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """`plural.group`, as in Kubernetes' messages; the same for all versions of a kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """`Kind.group`, as in Kubernetes' validation messages."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def subresources(self) -> list[str]:
        """Names of its subresources."""
        return [*(["status"] if self.status else []), *(["scale"] if self.scale else [])]


def _core(kind: str, plural: str, *short_names: str, **more: Any) -> Resource:
    return Resource(group="", version="v1", kind=kind, plural=plural, short_names=short_names, **more)


def _apps(kind: str, plural: str, *short_names: str, **more: Any) -> Resource:
    more = {"generation": True, "categories": ("all",), "scale": Scale(), **more}
    return Resource(group="apps", version="v1", kind=kind, plural=plural, short_names=short_names, **more)


def _plain(group: str, version: str, kind: str, plural: str, **more: Any) -> Resource:
    return Resource(group=group, version=version, kind=kind, plural=plural, **{"status": False, **more})


_RBAC = "rbac.authorization.k8s.io"
BUILT_IN = (
    _core("Namespace", "namespaces", "ns", namespaced=False),
    _core("Node", "nodes", "no", namespaced=False),
    _core("Pod", "pods", "po", categories=("all",)),
    _core("Service", "services", "svc", categories=("all",)),
    _core("ConfigMap", "configmaps", "cm", status=False),
    _core("Secret", "secrets", status=False),
    _core("ServiceAccount", "serviceaccounts", "sa", status=False),
    _core("Event", "events", "ev", status=False),
    _core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc"),
    _apps("Deployment", "deployments", "deploy"),
    _apps("ReplicaSet", "replicasets", "rs"),
    _apps("StatefulSet", "statefulsets", "sts"),
    _apps("DaemonSet", "daemonsets", "ds", scale=None),
    _plain("events.k8s.io", "v1", "Event", "events", short_names=("ev",)),
    _plain("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    _plain("coordination.k8s.io", "v1", "Lease", "leases"),
    _plain(_RBAC, "v1", "Role", "roles"),
    _plain(_RBAC, "v1", "RoleBinding", "rolebindings"),
    _plain(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
    _plain(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _plain("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False),
    _plain("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False),
    _plain("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", status=True, generation=True),
    _plain("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", status=True),
    _plain("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", generation=True),
    _plain(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        short_names=("crd", "crds"),
        namespaced=False,
        status=True,
        generation=True,
    ),
)


@dataclass(slots=True)
class Registry:
    """All kinds that are currently served."""

    resources: dict[tuple[str, str, str], Resource] = field(
        default_factory=lambda: {(each.group, each.version, each.plural): each for each in BUILT_IN}
    )

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The kind of a URL; None if there is none."""
        return self.resources.get((group, version, plural))

    def by_key(self, key: str) -> Resource:
        """The kind with the key `plural.group`."""
        return next(resource for resource in self if resource.key == key)

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self.resources.values()))

    def define(self, crd: dict[str, Any]) -> None:
        """Serves the versions of a CRD, replacing those of its previous state."""
        self.forget(crd)
        for version in crd["spec"]["versions"]:
            if version.get("served"):
                resource = _from_crd(crd["spec"], version)
                self.resources[(resource.group, resource.version, resource.plural)] = resource

    def forget(self, crd: dict[str, Any]) -> None:
        """Stops serving the CRD's kind."""
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        for key in [key for key in self.resources if key[0] == group and key[2] == plural]:
            del self.resources[key]


def _path(json_path: str) -> tuple[str, ...]:
    return tuple(json_path.strip(".").split(".")) if json_path else ()


def _from_crd(spec: dict[str, Any], version: dict[str, Any]) -> Resource:
    names, subresources = spec["names"], version.get("subresources") or {}
    scale = subresources.get("scale")
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        namespaced=spec["scope"] == "Namespaced",
        status="status" in subresources,
        generation=True,
        scale=scale
        and Scale(
            replicas=_path(scale["specReplicasPath"]),
            status_replicas=_path(scale["statusReplicasPath"]),
            selector=_path(scale.get("labelSelectorPath", "")),
        ),
        schema=Schema(version["schema"]["openAPIV3Schema"]),
        columns=tuple(version.get("additionalPrinterColumns", ())),
    )
