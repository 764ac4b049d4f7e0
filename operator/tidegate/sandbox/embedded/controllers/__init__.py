"""
The controller manager and the scheduler, as far as the sandbox needs them.

Question: what follows from the current state of the objects?
Enters:   changes in the store.
Leaves:   writes to the store.
May import: the other files of `embedded`. Controllers are level-triggered: they look at the state, not at the change.

    loop        the queue of objects to reconcile, and the task that works it off
    cluster     helpers that all controllers share
    workloads   Deployment -> ReplicaSet -> Pod, with rolling updates
    scheduling  binding by node resources and pod requests
    endpoints   Service -> EndpointSlice
    garbage     owner references, foreground and orphan deletion, namespaces
"""

from tidegate.sandbox.embedded.controllers.loop import Controllers

__all__ = ["Controllers"]
