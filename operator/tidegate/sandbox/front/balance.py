"""
The replicas behind a Service, and the choice of the next one.

In:    EndpointSlices as they change, connections as they open and close.
Out:   address and port of a replica, after waiting if none is ready.
"""

import asyncio
import random
from dataclasses import dataclass, field
from enum import StrEnum

from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.addresses import listening

Backend = tuple[str, int]


class Policy(StrEnum):
    """How a replica is picked."""

    LEAST = "least"
    RANDOM = "random"


def backends_in(endpoint_slice: Object) -> frozenset[Backend]:
    """Listening address and port of each ready endpoint of a slice."""
    ports = [int(port["port"]) for port in endpoint_slice.get("ports") or [] if port.get("port")]
    ready = [e for e in endpoint_slice.get("endpoints") or [] if (e.get("conditions") or {}).get("ready", True)]
    return frozenset((listening(address), ports[0]) for e in ready for address in e["addresses"] if ports)


@dataclass(slots=True)
class Backends:
    """
    Ready replicas, and how many connections each has.

    Args:
        policy: How a replica is picked.
        chance: Random generator, also to break ties.
        queued: Connections that wait for a replica.
        taken: Total number of connections.
        open: Open connections by replica; replicas without any are absent.
    """

    policy: Policy = Policy.LEAST
    chance: random.Random = field(default_factory=random.Random)
    queued: int = 0
    taken: int = 0
    open: dict[Backend, int] = field(default_factory=dict)
    _slices: dict[str, frozenset[Backend]] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, name: str, ready: frozenset[Backend]) -> None:
        """Set the ready replicas of a slice; empty if the slice was deleted."""
        self._slices[name] = ready
        if self.ready:
            self._some.set()
        else:
            self._some.clear()

    @property
    def ready(self) -> list[Backend]:
        """The ready replicas, sorted."""
        return sorted(frozenset().union(*self._slices.values()))

    def pick(self) -> Backend | None:
        """The replica for the next connection; None if none is ready."""
        ready = self.ready
        if not ready:
            return None
        if self.policy is Policy.RANDOM:
            return self.chance.choice(ready)
        fewest = min(self.open.get(backend, 0) for backend in ready)
        return self.chance.choice([b for b in ready if self.open.get(b, 0) == fewest])

    async def next(self, patience_s: float) -> Backend | None:
        """The replica for the next connection; waits up to `patience_s` for one, then returns None."""
        self.queued += 1
        self.taken += 1
        try:
            async with asyncio.timeout(patience_s):
                while (backend := self.pick()) is None:
                    await self._some.wait()
                return backend
        except TimeoutError:
            return None
        finally:
            self.queued -= 1

    def opened(self, backend: Backend) -> None:
        """Count a new connection."""
        self.open[backend] = self.open.get(backend, 0) + 1

    def closed(self, backend: Backend) -> None:
        """Count a closed connection."""
        self.open[backend] -= 1
        if self.open[backend] == 0:
            del self.open[backend]
