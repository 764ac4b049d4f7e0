"""
The single path of all writes: validation, defaults, metadata, ownership.

In:    a `Request`.
Out:   (HTTP status, object); an `ApiError` if the request is rejected.
Rules: nothing here awaits, so writes never interleave and a patch always applies to the newest state.
"""

import random
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.sandbox.embedded import builtin, failures, patching
from tidegate.sandbox.embedded.apply import Managers, Path, Shape, apply, changed_fields, owned_fields
from tidegate.sandbox.embedded.request import Request
from tidegate.sandbox.embedded.resources import Registry, Resource
from tidegate.sandbox.embedded.scaling import nested, to_scale, with_scale
from tidegate.sandbox.embedded.store import Object, Store, copied

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
# Metadata that a client cannot change.
_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
# Kinds that keep the status with which they are created: a node reports itself.
_STATUS_FROM_CLIENT = frozenset({"nodes"})


def timestamp(at: datetime | None = None) -> str:
    """A time (default: now) in Kubernetes' format: whole seconds, UTC."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """
    Who makes a write.

    Args:
        key: (manager, operation, subresource) in `managedFields`.
        applied: For an apply: the managers after the merge, and the fields that it owns.
    """

    key: tuple[str, str, str]
    applied: tuple[Managers, set[tuple[str, ...]]] | None = None


class Writer:
    """
    Executes all writes to one control plane.

    Args:
        store: The objects.
        registry: The served kinds.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store, self.registry = store, registry

    def create(self, request: Request) -> tuple[int, Object]:
        """POST to a collection."""
        return 201, self._create(request, request.item(), _ownership(request, "Update"))

    def update(self, request: Request) -> tuple[int, Object]:
        """PUT."""
        return self._replace(request, self._existing(request), request.item())

    def patch(self, request: Request) -> tuple[int, Object]:
        """PATCH of any type."""
        if request.content_type == patching.APPLY:
            return self._apply(request)
        old = self._existing(request)
        return self._replace(request, old, _patched(request, _shown(old, request)))

    def _replace(self, request: Request, old: Object, new: Object) -> tuple[int, Object]:
        """Stores a complete new state of an object, or of its scale."""
        if request.subresource == "scale":
            new = _with_version(with_scale(old, new, request.resource), new)
        return 200, _shown(self._save(request, old, new, _ownership(request, "Update")), request)

    def _apply(self, request: Request) -> tuple[int, Object]:
        """Server-side apply; creates the object if it does not exist."""
        if not request.query.get("fieldManager"):
            fault = failures.cause("fieldManager", "Required value: is required for apply patch", "FieldValueRequired")
            raise failures.invalid("PatchOptions.meta.k8s.io", "", [fault])
        wanted = request.item()
        if "managedFields" in wanted.get("metadata", {}):
            raise failures.bad_request("metadata.managedFields must be nil")
        old = self.store.get(request.resource.key, request.key)
        resource = request.resource
        if request.subresource == "scale":
            assert resource.scale is not None
            count = (wanted.get("spec") or {}).get("replicas")
            wanted = {"metadata": wanted.get("metadata", {}), **nested(resource.scale.replicas, count)}
        shape = _shape(resource)
        ownership = _ownership(request, "Apply")
        if old is None and request.subresource:
            raise failures.not_found(resource.key, request.name)
        merged, managers, fields = apply(old, wanted, shape, key=ownership.key, force=request.flag("force"))
        ownership = Ownership(key=ownership.key, applied=(managers, fields))
        if old is None:
            merged = {**merged, "metadata": {**merged.get("metadata", {}), "name": request.name}}
            return 201, self._create(request, merged, ownership)
        merged["metadata"]["resourceVersion"] = wanted.get("metadata", {}).get("resourceVersion", "")
        return 200, _shown(self._save(request, old, merged, ownership), request)

    def bind(self, request: Request) -> tuple[int, Object]:
        """POST to `pods/NAME/binding`: assigns a pod to a node."""
        old = self._existing(request)
        if old["spec"].get("nodeName"):
            raise failures.conflict("pods/binding", request.name, f"pod {request.name} is already assigned to node")
        new = copied(old)
        new["spec"]["nodeName"] = request.item()["target"]["name"]
        set_condition(new["status"], {"type": "PodScheduled", "status": "True"})
        self.store.put(request.resource.key, request.key, new)
        return 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _existing(self, request: Request) -> Object:
        found = self.store.get(request.resource.key, request.key)
        if found is None:
            raise failures.not_found(request.resource.key, request.name)
        return found

    def _create(self, request: Request, wanted: Object, ownership: Ownership) -> Object:
        resource = request.resource
        new: Object = copied(wanted)
        metadata = new.setdefault("metadata", {})
        self._check_identity(request, new)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        key = (request.namespace, metadata.get("name", ""))
        if self.store.get(resource.key, key) is not None:
            raise failures.already_exists(resource.key, key[1])
        if resource.status and resource.key not in _STATUS_FROM_CLIENT:
            new.pop("status", None)
        for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"):
            metadata.pop(name, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
        metadata |= {"namespace": request.namespace} if resource.namespaced else {}
        metadata |= {"generation": 1} if resource.generation else {}
        self._check(request, new, None)
        self._own(request, {"metadata": {}}, new, ownership)
        if request.dry_run:
            return new
        return self.store.put(resource.key, key, new)

    def _save(self, request: Request, old: Object, wanted: Object, ownership: Ownership) -> Object:
        """Updates an existing object, for all kinds of requests."""
        resource, new = request.resource, copied(wanted)
        self._check_identity(request, new)
        metadata = new["metadata"]
        version = metadata.pop("resourceVersion", None)
        if version and version != old["metadata"]["resourceVersion"]:
            raise failures.conflict(resource.key, request.name)
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: "
            raise failures.conflict(resource.key, request.name, why + old["metadata"]["uid"])
        new = _split(resource, old, new, subresource=request.subresource)
        self._check(request, new, old)
        if resource.generation:
            changed = _wanted(old) != _wanted(new)
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + changed
        self._own(request, old, new, ownership)
        if request.dry_run:
            return new
        if _same(old, new):
            return old
        saved = self.store.put(resource.key, request.key, new)
        if may_go(saved):
            return self.store.remove(resource.key, request.key)
        return saved

    def _check_identity(self, request: Request, item: Object) -> None:
        """Checks that the body has the kind, namespace and name of the URL, and that the namespace exists."""
        resource = request.resource
        item.setdefault("apiVersion", resource.api_version)
        item.setdefault("kind", resource.kind)
        metadata = item.setdefault("metadata", {})
        if item["apiVersion"] != resource.api_version or item["kind"] != resource.kind:
            got = f"{item['apiVersion']}, Kind={item['kind']}"
            raise failures.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): {got} was sent to "
                f"{resource.api_version}, Kind={resource.kind}"
            )
        if metadata.get("namespace", request.namespace) not in (request.namespace, ""):
            text = "the namespace of the provided object does not match the namespace sent on the request"
            raise failures.bad_request(text)
        if request.name and metadata.setdefault("name", request.name) != request.name:
            raise failures.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({request.name})"
            )
        if request.namespace and resource.namespaced:
            home = self.store.get("namespaces", ("", request.namespace))
            if home is None and not request.name:
                raise failures.not_found("namespaces", request.namespace)
            if home is not None and not request.name and home["metadata"].get("deletionTimestamp"):
                text = f"unable to create new content in namespace {request.namespace} because it is being terminated"
                raise failures.ApiError(403, "Forbidden", f'{resource.key} "" is forbidden: {text}')

    def _check(self, request: Request, new: Object, old: Object | None) -> None:
        """Fills in defaults, prunes and validates."""
        resource, name = request.resource, new["metadata"].get("name", "")
        found = []
        if not name:
            text = "Required value: name or generateName is required"
            found.append(failures.cause("metadata.name", text, "FieldValueRequired"))
        elif not _SUBDOMAIN.match(name) and resource.group != "rbac.authorization.k8s.io":
            found.append(failures.cause("metadata.name", f'Invalid value: "{name}": {_SUBDOMAIN_WORDS}'))
        if resource.schema is not None:
            _report_unknown(request, resource.schema.prune(new))
            resource.schema.default(new)
            found += resource.schema.faults(new, old)
        else:
            _guarded(request, lambda: builtin.fill(new))
            found += builtin.faults(new) if not request.subresource else []
            found += _immutable(new, old)
        if found:
            raise failures.invalid(resource.qualified_kind, name, found)

    def _own(self, request: Request, old: Object, new: Object, ownership: Ownership) -> None:
        """Updates `managedFields`."""
        key, now = ownership.key, timestamp()
        api_version = request.resource.api_version
        shape = _shape(request.resource)
        if ownership.applied is not None:
            managers, fields = ownership.applied
            # Applied fields belong to the manager; defaults filled in by this write belong to nobody, as in Kubernetes.
            managers.give(key, fields & owned_fields(new, shape).keys(), api_version=api_version, now=now)
        else:
            managers = Managers(old)
            changed, gone = changed_fields(old, new, shape)
            if request.subresource == "scale":
                changed, gone = _scaled_fields(old, new, changed, request.resource)
            managers.take(key, changed | gone)
            if changed or gone:
                managers.give(key, (managers.of(key) - gone) | changed, api_version=api_version, now=now)
        new["metadata"]["managedFields"] = managers.entries()


def _ownership(request: Request, operation: str) -> Ownership:
    return Ownership(key=(request.manager, operation, request.subresource))


def _shown(item: Object, request: Request) -> Object:
    return to_scale(item, request.resource) if request.subresource == "scale" else item


def _scaled_fields(old: Object, new: Object, changed: set[Path], resource: Resource) -> tuple[set[Path], set[Path]]:
    """
    Changes in ownership by a write through the scale: (fields that the writer owns, fields that lose their owner).

    Two quirks of the real API server are reproduced: a count of zero is omitted from a `Scale` and so has no owner; and
    if the count had no owner before, the writer is not recorded.
    """
    if "managedFields" not in to_scale(old, resource)["metadata"]:
        return set(), set()
    return (changed, set()) if to_scale(new, resource)["spec"] else (set(), changed)


def _with_version(item: Object, scale: Object) -> Object:
    """An object with the resourceVersion of a `Scale`, as a condition for the write."""
    version = (scale.get("metadata") or {}).get("resourceVersion", "")
    return {**item, "metadata": {**item["metadata"], "resourceVersion": version}}


def _patched(request: Request, before: Object) -> Object:
    """The object (or its scale) with a merge, JSON or strategic-merge patch applied."""
    content, resource = request.content(), request.resource
    if request.content_type == patching.JSON:
        result = patching.json_patch(before, content, kind=resource.qualified_kind)
    elif request.content_type == patching.MERGE:
        result = patching.merge_patch(before, request.item())
    elif request.content_type == patching.STRATEGIC and resource.schema is None:
        result = patching.strategic_patch(before, request.item(), kind=resource.kind)
    else:
        accepted = "the body of the request was in an unknown format - accepted media types include: "
        raise failures.ApiError(
            415, "UnsupportedMediaType", f"{accepted}{patching.JSON}, {patching.MERGE}, {patching.APPLY}"
        )
    # Only a resourceVersion in the patch itself is a condition.
    named = content.get("metadata") or {} if isinstance(content, dict) else {}
    version = named.get("resourceVersion", "")
    if request.content_type == patching.JSON and result["metadata"].get("resourceVersion") != before["metadata"].get(
        "resourceVersion"
    ):
        version = result["metadata"].get("resourceVersion", "")
    return {**result, "metadata": {**result.get("metadata", {}), "resourceVersion": version}}


def _shape(resource: Resource) -> Shape:
    return Shape(resource.kind, resource.schema.root if resource.schema else None)


def _split(resource: Resource, old: Object, new: Object, *, subresource: str) -> Object:
    """Separates spec and status: a normal write keeps the old status, a status write keeps everything else."""
    metadata = {**new["metadata"]}
    for name in _FIXED:
        metadata.pop(name, None)
    metadata |= {name: old["metadata"][name] for name in _FIXED if name in old["metadata"]}
    if subresource == "status" and resource.schema is not None:
        metadata = copied(old["metadata"])
    new = {**new, "metadata": metadata}
    if not resource.status:
        return new
    source = {**copied(old), "metadata": metadata} if subresource == "status" else new
    status = new.get("status") if subresource == "status" else copied(old.get("status"))
    result = {name: value for name, value in source.items() if name != "status"}
    return {**result, "status": status} if status is not None else result


def _wanted(item: Object) -> Object:
    """The part whose changes count for the generation: everything except metadata and status."""
    return {name: value for name, value in item.items() if name not in ("metadata", "status")}


def _same(old: Object, new: Object) -> bool:
    """Whether a write changes nothing except the times in `managedFields`."""

    def plain(item: Object) -> Object:
        metadata = {name: value for name, value in item["metadata"].items() if name != "resourceVersion"}
        entries = [{**entry, "time": ""} for entry in metadata.pop("managedFields", [])]
        return {**item, "metadata": {**metadata, "managedFields": entries}}

    return plain(old) == plain(new)


def may_go(item: Object) -> bool:
    """Whether an object that is marked for deletion can be removed now."""
    metadata = item["metadata"]
    waiting = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    return bool(metadata.get("deletionTimestamp")) and not waiting and item["kind"] != "Namespace"


def _report_unknown(request: Request, unknown: list[str]) -> None:
    """Handles unknown fields as the client wants: reject, warn, or drop silently."""
    how = request.query.get("fieldValidation", "Warn")
    if unknown and how == "Strict":
        text = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise failures.bad_request(f"strict decoding error: {text}")
    if how == "Warn":
        request.warnings.extend(f'unknown field "{field}"' for field in unknown)


def _guarded(request: Request, fill: Any) -> None:
    """Runs a function that fills in defaults; if it fails on a malformed object, that is a bad request, not a crash."""
    try:
        fill()
    except (AttributeError, KeyError, TypeError) as error:
        kind = request.resource.kind
        raise failures.bad_request(
            f"{kind} in version {request.resource.version!r} cannot be handled: {error!r}"
        ) from error


def _immutable(new: Object, old: Object | None) -> list[dict[str, str]]:
    if old is None or new["kind"] not in ("Deployment", "ReplicaSet"):
        return []
    if old["spec"].get("selector") == new["spec"].get("selector"):
        return []
    return [failures.cause("spec.selector", f"Invalid value: {new['spec'].get('selector')}: field is immutable")]


def random_suffix(length: int = 5) -> str:
    """Random letters and digits for a generated name, without vowels, so that they form no words."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=length))


def set_condition(status: dict[str, Any], condition: dict[str, Any]) -> None:
    """Sets a condition in a status; its transition time changes only if its status does."""
    conditions = status.setdefault("conditions", [])
    old = next((each for each in conditions if each["type"] == condition["type"]), None)
    moved = old is None or old["status"] != condition["status"]
    since = timestamp() if moved or old is None else old.get("lastTransitionTime", timestamp())
    conditions[:] = [each for each in conditions if each["type"] != condition["type"]]
    conditions.append({**condition, "lastTransitionTime": since})


def deadline(seconds: int) -> str:
    """The time `seconds` from now, in Kubernetes' format."""
    return timestamp(datetime.now(UTC) + timedelta(seconds=seconds))
