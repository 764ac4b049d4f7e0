"""
A small Kubernetes control plane in this process: what the sandbox starts on where no real one is at hand.

Question: what would the API server say, and what would the controllers do? Enters: HTTP. Leaves: HTTP, and objects.
May import: `sandbox.control_plane`, aiohttp, libraries for CEL, patches, schemas and quantities.

The rules are Kubernetes' own; the conformance tests send the same requests to this and to the real one, so that it
cannot drift unseen.

    resources   which kinds there are, built in or by CustomResourceDefinition
    store       objects, resourceVersion, history, watches
    schema      defaulting, pruning, validation and CEL of custom resources
    builtin     the defaults of built-in kinds, and their lists that are merged by key
    events      one kind, served under two names
    patching    merge, JSON and strategic-merge patches
    apply       server-side apply: field ownership and conflicts
    writing     the one path that every write takes
    reading     lists, continuation, selectors, tables
    watching    watch streams
    server      HTTP
    controllers Deployment -> ReplicaSet -> Pod, binding, EndpointSlice, garbage collection

Not there, on purpose: enforcement of RBAC (requests are recorded instead, so that a test can compare them with the
chart's rules), admission webhooks, version conversion, quotas, and kinds that neither Tidegate nor the sandbox uses.
"""

from tidegate.sandbox.embedded.server import EmbeddedControlPlane

__all__ = ["EmbeddedControlPlane"]
