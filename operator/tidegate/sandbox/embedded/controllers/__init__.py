"""
What the controller manager and the scheduler do, as far as the sandbox needs it.

Question: what follows from the objects as they are? Enters: changes in the store. Leaves: writes to the store.
May import: the other files of `embedded`. Level-triggered: each step looks at the state, never at the change itself.

    loop        which object needs a look, and the task that looks
    workloads   Deployment -> ReplicaSet -> Pod, with rolling updates
    scheduling  binding by what nodes offer and pods ask for
    endpoints   Service -> EndpointSlice
    garbage     owner references, foreground and orphan deletion, namespaces
"""

from tidegate.sandbox.embedded.controllers.loop import Controllers

__all__ = ["Controllers"]
