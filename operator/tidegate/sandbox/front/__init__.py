"""
The front end: one address in front of all replicas of a Service.

Question: which replica gets the next request?
Enters:   the Service's EndpointSlices, and connections.
Leaves:   bytes, forwarded unchanged in both directions. It retries nothing.
May import: sandbox.kube, sandbox.discovery, sandbox.kubelet.addresses; aiohttp only for its metrics.

A connection stays with one replica, as with a Service. The replayer opens one connection per request, so a connection
is a request. `least` picks the replica with the fewest open connections, as an LLM gateway does; `random` picks any, as
a Service does. If no replica is ready, connections wait, as in a gateway's queue, and get 503 after a minute.
"""

from tidegate.sandbox.front.balance import Backends, Policy
from tidegate.sandbox.front.proxy import Front

__all__ = ["Backends", "Front", "Policy"]
