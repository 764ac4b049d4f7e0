"""
Pod addresses, and the loopback addresses behind them.

Kubernetes rejects 127.0.0.0/8 in Endpoints and EndpointSlices. So a pod reports an ordinary address, 10.244.NODE.N,
and its server listens on 127.244.NODE.N. Clients (Prometheus, the front end) replace the first number; no packet leaves
loopback.
"""

import socket

from tidegate.errors import SourceError

REPORTED, LISTENING = "10.", "127."
NETWORK = "244"
NODE_HOST = 1


def node_address(node: int) -> str:
    """The address a node reports."""
    return f"{REPORTED}{NETWORK}.{node}.{NODE_HOST}"


def listening(address: str) -> str:
    """The address on which the server behind a reported address listens; other addresses are returned unchanged."""
    prefix = f"{REPORTED}{NETWORK}."
    return LISTENING + address.removeprefix(REPORTED) if address.startswith(prefix) else address


class Claim:
    """
    Consecutive node numbers that no other sandbox uses, held until closed or until this process ends.

    To look for a free port and use it later would be a race between sandboxes that start at once. So a UDP socket is
    bound to the port on which each node will listen over TCP: the kernel lets only one process have it, and frees it
    when that process ends.

    Args:
        count: Number of nodes, 1 to 200.
        port: Port on which every node listens.

    Raises:
        SourceError: There are not enough free numbers.
    """

    def __init__(self, count: int, *, port: int) -> None:
        self._sockets: list[socket.socket] = []
        for first in range(1, 256 - count):
            if all(self._take(listening(node_address(number)), port) for number in range(first, first + count)):
                self.first = first
                return
            self.close()
        raise SourceError(source="loopback", reason="NoAddress", detail=f"no {count} free networks in 127.244.0.0/16")

    def close(self) -> None:
        """Release the numbers."""
        while self._sockets:
            self._sockets.pop().close()

    def _take(self, address: str, port: int) -> bool:
        """Hold one address; False if another process holds it or listens there over TCP."""
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            held.bind((address, port))
        except OSError:
            held.close()
            return False
        self._sockets.append(held)
        return _is_free(address, port)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


class Addresses:
    """
    Pod addresses of one node. A released address is reused as late as possible, so that a late client reaches no one.

    Args:
        node: Number of the node, 0 to 255.
    """

    def __init__(self, node: int) -> None:
        assert 0 <= node <= 255, "one byte"
        self._free = [f"{REPORTED}{NETWORK}.{node}.{host}" for host in range(NODE_HOST + 1, 255)]

    def take(self) -> str:
        """A free pod address."""
        return self._free.pop(0)

    def give_back(self, address: str) -> None:
        """Release the address of a pod that has ended."""
        self._free.append(address)
