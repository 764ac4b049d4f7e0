"""
A small Kubernetes control plane in this process, for the sandbox on machines without a real one.

Question: how would the API server answer, and what would the controllers do?
Enters:   HTTP requests.
Leaves:   HTTP responses, and objects.
May import: `sandbox.control_plane`, aiohttp, libraries for CEL, patches, schemas and quantities.

It follows Kubernetes' rules. The conformance tests send the same requests to it and to the real control plane, so that
differences are noticed.

    resources   kinds, built in or defined by CustomResourceDefinitions
    store       objects, resourceVersion, history, watches
    schema      defaulting, pruning, validation and CEL of custom resources
    builtin     defaults of built-in kinds, and their lists that are merged by key
    events      Events, which are served by two API groups
    patching    merge, JSON and strategic-merge patches
    apply       server-side apply: field ownership and conflicts
    writing     the single path of all writes
    reading     get, list, pagination
    watching    watch streams
    tables      tables for kubectl, and metadata-only objects
    server      HTTP
    controllers Deployment -> ReplicaSet -> Pod, binding, EndpointSlice, garbage collection

Left out on purpose: enforcement of RBAC (requests are recorded instead, so that a test can compare them with the
chart's rules), admission webhooks, version conversion, quotas, and kinds that neither Tidegate nor the sandbox uses.
"""

from tidegate.sandbox.embedded.server import EmbeddedControlPlane

__all__ = ["EmbeddedControlPlane"]
