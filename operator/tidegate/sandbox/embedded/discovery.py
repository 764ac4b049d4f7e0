"""
API discovery: which groups, versions and kinds are served.

In:    the registry.
Out:   discovery documents, the version, an OpenAPI document.
"""

from typing import Any

from tidegate.sandbox.embedded.resources import VERBS, Registry, Resource

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.3+embedded", "platform": "linux/amd64", "gitCommit": ""}
# An OpenAPI v2 document without kinds, as protobuf: swagger "2.0", info {title, version}, no paths. Old kubectls accept
# only protobuf here, and leave validation to the server for kinds that the document does not contain.
OPENAPI_V2_PROTOBUF = b"\x0a\x032.0\x12\x13\x0a\x08tidegate\x12\x07sandbox\x42\x00"
OPENAPI_V2 = {"swagger": "2.0", "info": {"title": "tidegate", "version": "sandbox"}, "paths": {}}


def document(path: str, registry: Registry) -> dict[str, Any] | None:
    """The discovery document at a path; None if there is none."""
    parts = path.strip("/").split("/")
    match parts:
        case ["version"]:
            found: dict[str, Any] | None = VERSION
        case ["api"]:
            found = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(name, registry) for name in sorted({r.group for r in registry if r.group})]
            found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", "v1"]:
            found = _kinds("", "v1", registry)
        case ["apis", group] if any(each.group == group for each in registry):
            found = {"kind": "APIGroup", "apiVersion": "v1", **_group(group, registry)}
        case ["apis", group, version]:
            found = _kinds(group, version, registry)
        case _:
            found = None
    return found


def _group(name: str, registry: Registry) -> dict[str, Any]:
    versions = sorted({r.version for r in registry if r.group == name}, key=_age_of_version)
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _age_of_version(version: str) -> tuple[int, str]:
    """Sort key: stable versions first, then beta, then alpha."""
    return (2 if "alpha" in version else 1 if "beta" in version else 0), version


def _kinds(group: str, version: str, registry: Registry) -> dict[str, Any] | None:
    found = [each for each in registry if (each.group, each.version) == (group, version)]
    if not found:
        return None
    name = f"{group}/{version}" if group else version
    listed = [entry for resource in found for entry in _entries(resource)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}


def _entries(resource: Resource) -> list[dict[str, Any]]:
    base = {"singularName": resource.kind.lower(), "namespaced": resource.namespaced, "kind": resource.kind}
    own: dict[str, Any] = {"name": resource.plural, **base, "verbs": list(VERBS)}
    if resource.short_names:
        own["shortNames"] = list(resource.short_names)
    if resource.categories:
        own["categories"] = list(resource.categories)
    below = []
    for name in resource.subresources():
        entry: dict[str, Any] = {"name": f"{resource.plural}/{name}", **base, "singularName": ""}
        entry["verbs"] = ["get", "patch", "update"]
        below.append(entry | ({"group": "autoscaling", "version": "v1", "kind": "Scale"} if name == "scale" else {}))
    return [own, *below]
