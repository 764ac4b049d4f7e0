"""
A real Kubernetes control plane on loopback: etcd, API server with RBAC, controller manager, scheduler.

Question: where is a cluster to act on? Enters: the programs (`binaries`). Leaves: a URL, a CA, tokens and kubeconfigs.
May import: `sandbox.binaries`, `errors`, aiohttp. No process and no file is left when it stops, however it stops.

    processes     child processes that die with us
    account       what a client needs to speak to an API server, as a value and as a kubeconfig
    certificates  for a server of our own on loopback
    real          the four programs, their flags, and when they are ready
"""

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.control_plane.real import RealControlPlane

__all__ = ["Account", "RealControlPlane"]
