"""
Interfaces between the packages around the core, and the values they pass.

Question: who may be called, with what, and what comes back? Enters: nothing. Leaves: protocols and frozen values.
May import: the core's values, the standard library. No package imports another one's implementation of a port: the
runtime creates each part once and passes it on.

    handlers  -> Inventory          what users wrote, parsed
    observe   -> ClusterView        what the cluster has
    actuate   <- Order, -> Outcome  what to do with one deployment, and what became of it
    report    <- Report             everything a status is made of
    all I/O through KubeApi; every write after Fence.holds()
"""

import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tidegate.domain.decision import Condition, Decision
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.errors import SourceError, SpecError

GROUP, VERSION = "tidegate.io", "v1alpha1"
DEPLOYMENTS, ACCELERATORS = "inferencedeployments", "acceleratorclasses"

# Labels of the pods, workloads and Services of managed tiers.
DEPLOYMENT_LABEL = "tidegate.io/inference-deployment"
TIER_LABEL = "tidegate.io/tier"

# The field manager of everything Tidegate writes.
FIELD_MANAGER = "tidegate"

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# Lists without spec and status, which is all that a sweep for deleted objects needs.
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def leaving_name(tier: str, tiers: Collection[str]) -> str:
    """
    Name for a tier that was removed from the spec while its pods still serve: the name on their labels, with a suffix
    if the spec has another tier of that name.
    """
    name = tier
    while name in tiers:
        name += "-old"
    return name


def by_key(items: object, key: str) -> dict[str, Mapping[str, Any]]:
    """Items of a list in a status, by their key (`name`, `type`); empty if there is no such list."""
    there = items if isinstance(items, list) else []
    return {item[key]: item for item in there if isinstance(item, Mapping) and key in item}


class ApiError(SourceError):
    """
    The API server refused a call, or did not answer.

    Args:
        status: HTTP status; 0 if there was no answer (timeout, refused, cut off).
        reason: Kubernetes' reason (`NotFound`, `Conflict`, `Expired`), else `Timeout` or `Unreachable`.
        retry_after_s: Delay that the server asked for; None: it did not.
    """

    def __init__(self, *, status: int, reason: str, detail: str, retry_after_s: float | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        super().__init__(source="kubernetes", reason=reason, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One request to the API server.

    Args:
        method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        path: Absolute path, e.g. `/apis/apps/v1/namespaces/prod/deployments/chat`.
        params: Query parameters, e.g. `{"fieldManager": FIELD_MANAGER, "force": "true"}`.
        body: JSON value; None: no body.
        content_type: For patches: JSON_PATCH, MERGE_PATCH or APPLY_PATCH (the body is JSON, which is YAML).
        timeout_s: For the whole call; for a watch, the longest silence.
        accept: Requested media type, e.g. METADATA_ONLY.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | list[Any] | None = None
    content_type: str = "application/json"
    timeout_s: float = 10.0
    accept: str = "application/json"

    def __post_init__(self) -> None:
        assert self.path.startswith("/"), self.path


class KubeApi(Protocol):
    """A connection to the API server. Raises `ApiError` and nothing else; each call ends within its timeout."""

    async def send(self, call: Call) -> dict[str, Any]:
        """The answer to one request."""
        ...

    def watch(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Events of a watch (`{"type": ..., "object": ...}`) until the server ends it."""
        ...


class Fence(Protocol):
    """
    Who may write. Ask before each write: a leader that cannot renew its lease in time stops being the leader.

    What was decided under one leadership is not carried out under another: another process may have acted in between.
    """

    @property
    def epoch(self) -> int:
        """Number of this leadership (the Lease's leaseTransitions); increases with each change of leader."""
        ...

    def holds(self) -> bool:
        """True while this process is the leader and a write that starts now would end within the lease."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentResource:
    """
    One InferenceDeployment as last seen.

    Args:
        key, uid, generation: Identity; `generation` is metadata.generation.
        spec: Parsed, or what is wrong with it.
        status: `.status` as the server has it; empty if there is none yet.
        annotations: `metadata.annotations`.
        created: `metadata.creationTimestamp`, as written.
    """

    key: Key
    uid: str
    generation: int
    spec: DeploymentSpec | SpecError
    status: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @property
    def valid_spec(self) -> DeploymentSpec:
        """`spec`, for callers that only handle valid ones."""
        assert isinstance(self.spec, DeploymentSpec), self.key
        return self.spec


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorResource:
    """One AcceleratorClass as last seen. `accelerator.capacity` is spec.capacity (None: what the nodes offer)."""

    name: str
    uid: str
    generation: int
    accelerator: Accelerator | SpecError
    status: Mapping[str, Any] = field(default_factory=dict)


class Inventory(Protocol):
    """
    What users asked for, as the handlers receive it. Called on the event loop.

    A call wakes the planner only if spec, generation or annotations changed. The echo of our own status write does not.
    """

    def put_deployment(self, resource: DeploymentResource) -> None:
        """Remember a new or changed deployment."""
        ...

    def drop_deployment(self, key: Key, uid: str) -> None:
        """Forget a deleted one. Does nothing if an object with another uid has the key by now."""
        ...

    def put_accelerator(self, resource: AcceleratorResource) -> None:
        """Remember a new or changed AcceleratorClass."""
        ...

    def drop_accelerator(self, name: str, uid: str) -> None:
        """Forget a deleted one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """Names one namespaced object of any kind; `api_version` as in manifests (`apps/v1`)."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A manager that set `.spec.replicas`, from managedFields. `time` as written."""

    manager: str
    operation: str
    time: str


def own_workload(key: Key, tier: str) -> ObjectRef:
    """The Deployment that Tidegate creates for a managed tier."""
    return ObjectRef(api_version="apps/v1", kind="Deployment", namespace=key.namespace, name=f"{key.name}-{tier}")


def workload_ref(key: Key, tier: TierSpec) -> ObjectRef:
    """The workload that holds a tier's replicas: the Deployment created for it, or its target."""
    target = tier.target_ref
    if target is None:
        return own_workload(key, tier.name)
    return ObjectRef(api_version=target.api_version, kind=target.kind, namespace=key.namespace, name=target.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadView:
    """
    A workload with /scale as last seen, trimmed.

    Args:
        ref: Which one.
        uid: `metadata.uid`.
        path: Absolute path of the object; replicas are changed through `path + "/scale"`.
        replicas: `.spec.replicas` of its scale.
        selector: Label selector of its pods, as text.
        labels, annotations: Of the workload itself, as far as they are Tidegate's.
        owner_uids: uids of its ownerReferences.
        writers: Managers that own `.spec.replicas`.
        ready: `.status.readyReplicas`.
        outdated: Replicas that a rollout still has to create or replace.
        applied: Digest of the fields that we applied and still own; it changes when another manager sets one of them.
            Empty: none.
        refused: Why its pods are not created (a quota, an admission webhook); empty: they are.
    """

    ref: ObjectRef
    uid: str
    path: str
    replicas: int
    selector: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_uids: tuple[str, ...] = ()
    writers: tuple[Writer, ...] = ()
    ready: int = 0
    outdated: int = 0
    applied: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedView:
    """
    A Service or PodMonitor with the name of a deployment, whoever made it, trimmed to what comparing a hash in its
    annotations needs.
    """

    ref: ObjectRef
    uid: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorUse:
    """
    Accelerators of one class: what the matching nodes offer, and who holds how many.

    Args:
        blocks: How many nodes Tidegate may hold this many accelerators on, by that number. What it has on nodes that
            do not match, or no longer do, is included.
    """

    allocatable: int
    by_tidegate: int
    by_others: int
    blocks: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """
    The cluster at one instant, as the informers have it.

    Args:
        workloads: Every existing workload that a tier points at or owns.
        scalers: HorizontalPodAutoscalers and ScaledObjects, by the workload they target.
        owned: Services and PodMonitors with the names of deployments: Tidegate's, or somebody else's.
        accelerators: Use by AcceleratorClass name.
        mismatches: By deployment, sentences about targets whose pods use other accelerators than their tier states.
        has_pod_monitors: The PodMonitor CRD is installed.
        seen_s: When, monotonic seconds; infinite: now.
    """

    workloads: Mapping[ObjectRef, WorkloadView] = field(default_factory=dict)
    scalers: Mapping[ObjectRef, tuple[ObjectRef, ...]] = field(default_factory=dict)
    owned: Mapping[ObjectRef, OwnedView] = field(default_factory=dict)
    accelerators: Mapping[str, AcceleratorUse] = field(default_factory=dict)
    mismatches: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    has_pod_monitors: bool = False
    seen_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    One decision to carry out for a deployment.

    Args:
        resource: The custom resource; its `spec` is valid.
        decision: What the core decided; None: only keep the manifests right (mode Auto without a decision yet).
        view: The cluster.
        accelerators: Every class, by name.
    """

    resource: DeploymentResource
    decision: Decision | None
    view: ClusterView
    accelerators: Mapping[str, Accelerator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What became of an order.

    Args:
        actions: One sentence per write, e.g. `Deployment prod/chat-fp8: replicas 2 -> 3`; empty: nothing to do.
        conditions: Findings that only the cluster shows (another writer, missing target), one per type.
        errors: What failed; it is tried again at the next tick.
        asked: Replicas by tier last requested through /scale, or that the workload already had when they were decided.
            A tier that is not listed was never scaled; None: nothing was checked.
    """

    actions: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    errors: tuple[SourceError, ...] = ()
    asked: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    Everything the status of one deployment is made of. `resource.status` is the current one.

    Args:
        resource: The custom resource, spec valid or not.
        decision: None: not planned in this tick (then `outcome` says why, or the spec is wrong).
        observation: What was observed; None: nothing.
        outcome: None: not carried out (mode, pause, or not yet).
        view: The cluster.
        time_s: Of the tick, unix seconds.
        accelerators: Every class, by name.
        leaving: Tiers removed from the spec whose pods still serve.
    """

    resource: DeploymentResource
    decision: Decision | None
    observation: DeploymentObservation | None
    outcome: Outcome | None
    view: ClusterView
    time_s: float
    accelerators: Mapping[str, Accelerator] = field(default_factory=dict)
    leaving: tuple[TierSpec, ...] = ()


class Actuator(Protocol):
    """Carries out orders. Implemented by `tidegate.actuate.cluster.ClusterActuator(api, fence)`."""

    async def carry_out(self, order: Order, goes_on: Callable[[], bool] = lambda: True) -> Outcome:
        """
        Write what differs from what is wanted and nothing else; never raises `ApiError`.

        Args:
            goes_on: Asked between two independent changes; once it returns False, the rest is left to a later order.
        """
        ...
