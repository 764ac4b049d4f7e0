"""
A minimal `kubectl apply --server-side` for objects of any kind, using the API server's discovery.

In:    a manifest.
Out:   the object, applied.
"""

import asyncio
from typing import Any

from tidegate.errors import SourceError
from tidegate.observe.kinds import collection_path, group_path
from tidegate.sandbox.kube import Kind, Kube, KubeError, Object

# A CRD is served a moment after it is created.
PATIENCE_S = 20.0
RETRY_S = 0.1


async def apply(kube: Kube, document: Object) -> Object:
    """
    Apply one object.

    Creates its namespace if that is missing, and waits for its kind if that is not served yet.

    Raises:
        SourceError: The API server rejects it, or does not know its kind.
    """
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + PATIENCE_S
    while True:
        try:
            resource = await _resource(kube, document)
            break
        except SourceError:
            if clock() > deadline_s:
                raise
            await asyncio.sleep(RETRY_S)
    metadata = document["metadata"]
    namespace = metadata.get("namespace", "default") if resource["namespaced"] else None
    if namespace is not None:
        await _ensure_namespace(kube, namespace)
    path = collection_path(document["apiVersion"], resource["name"], namespace)
    return await kube.patch(f"{path}/{metadata['name']}", document, Kind.APPLY)


async def _resource(kube: Kube, document: Object) -> dict[str, Any]:
    listing = await kube.get(group_path(document["apiVersion"]))
    for resource in listing["resources"]:
        if resource["kind"] == document["kind"] and "/" not in resource["name"]:
            return dict(resource)
    raise SourceError(
        source="kubernetes", reason="NotFound", detail=f"the API server does not serve the kind {document['kind']}"
    )


async def _ensure_namespace(kube: Kube, name: str) -> None:
    try:
        await kube.get(f"/api/v1/namespaces/{name}")
    except KubeError as refused:
        if refused.status != 404:
            raise
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await kube.create("/api/v1/namespaces", body)
