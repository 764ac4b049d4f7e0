"""
A real Kubernetes control plane on loopback: etcd, API server with RBAC, controller manager, scheduler.

Question: where does the operator find a cluster?
Enters:   the programs (see `binaries`).
Leaves:   a URL, a CA, tokens and kubeconfigs. No process and no file remains after it stops.
May import: `sandbox.binaries`, `errors`, aiohttp.

    processes     child processes that end with this process
    account       address and credentials of a client, as a value and as a kubeconfig
    certificates  a certificate for our own servers on loopback
    real          the four programs, their flags, and when they are ready
"""

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.control_plane.real import RealControlPlane

__all__ = ["Account", "RealControlPlane"]
