"""
One request to the API server, independent of HTTP.

In:    method, path, query, headers, body.
Out:   a `Request`; 404 for unknown paths.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tidegate.sandbox.embedded.events import to_core
from tidegate.sandbox.embedded.failures import ApiError, bad_request
from tidegate.sandbox.embedded.resources import Registry, Resource

# Subresources that are accepted for every kind.
_ACTIONS = ("binding", "eviction", "token", "finalize")


class NowhereError(Exception):
    """The group, version or kind is not served: 404 in plain text, as in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request for objects.

    Args:
        verb: RBAC verb: get, list, watch, create, update, patch, delete, deletecollection.
        resource: The kind.
        namespace: Empty for cluster-scoped kinds and for all namespaces.
        name: Name of the object; empty for all.
        subresource: `status`, `scale` ...; empty for the object itself.
        query: Parameters of the URL.
        content_type: Content type of the body, without parameters.
        body: The raw body.
        agent: The client's `User-Agent`.
        accept: The `Accept` header.
        renamed: Whether Events are in the form of `events.k8s.io`.
        warnings: Texts for the `Warning` header, added while the request is handled.
    """

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    body: bytes = b""
    agent: str = ""
    accept: str = ""
    renamed: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name) of the object."""
        return self.namespace, self.name

    @property
    def manager(self) -> str:
        """The field manager: the parameter, or else the program name in `User-Agent`."""
        return self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"

    def flag(self, name: str) -> bool:
        """A parameter as a boolean."""
        return self.query.get(name, "").lower() in ("true", "1")

    def content(self) -> Any:
        """
        The parsed body; an empty object if it is empty.

        Raises:
            ApiError: 400 if it is not valid JSON or YAML.
        """
        if not self.body.strip():
            return {}
        try:
            content = yaml.safe_load(self.body) if "yaml" in self.content_type else json.loads(self.body)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"the body cannot be read: {error}") from error
        return to_core(content) if self.renamed and isinstance(content, dict) else content

    def item(self) -> dict[str, Any]:
        """
        The body as an object.

        Raises:
            ApiError: 400 if it is not an object.
        """
        content = self.content()
        if not isinstance(content, dict):
            raise bad_request("the body must be an object")
        return content


def locate(path: str, registry: Registry) -> tuple[Resource, str, str, str]:
    """
    (resource, namespace, name, subresource) of a path.

    Raises:
        NowhereError: The group, version or kind is not served.
        ApiError: 404 for a subresource that the kind does not have.
    """
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0]) if 1 <= len(rest) <= 3 else None
    if resource is None or (namespace and not resource.namespaced):
        raise NowhereError
    name, subresource = (rest[1] if len(rest) > 1 else ""), (rest[2] if len(rest) > 2 else "")
    if subresource and subresource not in (*_ACTIONS, *resource.subresources()):
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    return resource, namespace, name, subresource


def verb_of(method: str, *, name: str, watch: bool) -> str:
    """
    The RBAC verb of an HTTP method on an object or on a collection.

    Raises:
        ApiError: 405 if there is none.
    """
    if method == "GET":
        return "watch" if watch else "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
    if method not in verbs or (method in ("PUT", "PATCH") and not name):
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return verbs[method]
