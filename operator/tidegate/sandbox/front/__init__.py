"""
One address before all replicas of a Service.

Question: which replica gets the next request? Enters: the Service's EndpointSlices, and connections.
Leaves: bytes, passed on unchanged in both directions. It retries nothing and measures nothing.
May import: sandbox.kube, sandbox.discovery, sandbox.kubelet.addresses; aiohttp for its metrics alone.

A connection goes to one replica for as long as it lives, as with a Service; the replayer opens one per request, so
that a connection is a request. `least` picks the replica with the fewest open connections, as a gateway for language
models does; `random` picks any, as a Service does. Without a ready replica a connection is held until there is one,
as in a gateway's queue, and refused with 503 when none comes.
"""

from tidegate.sandbox.front.balance import Backends, Policy
from tidegate.sandbox.front.proxy import Front

__all__ = ["Backends", "Front", "Policy"]
