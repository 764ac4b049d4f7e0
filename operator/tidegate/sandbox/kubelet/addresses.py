"""
Pod addresses, and the loopback addresses behind them.

Kubernetes refuses 127.0.0.0/8 in Endpoints and EndpointSlices. So a pod reports an ordinary address, 10.244.NODE.N,
and its server listens on 127.244.NODE.N. Whoever connects (Prometheus, the front) swaps the first number; no packet
leaves loopback.
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
    """Where a server behind a reported address listens; any other address is its own."""
    prefix = f"{REPORTED}{NETWORK}."
    return LISTENING + address.removeprefix(REPORTED) if address.startswith(prefix) else address


class Claim:
    """
    Node numbers in a row that nobody else has, held until closed or until this process ends, however it ends.

    Looking for a free port and taking it later is a race between sandboxes that start at once. So a UDP socket is bound
    on the port that each node will listen on over TCP: the kernel gives it to one of them, and takes it back by itself.

    Args:
        count: Nodes, 1 to 200.
        port: What every node listens on.
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
        """Give the numbers back."""
        while self._sockets:
            self._sockets.pop().close()

    def _take(self, address: str, port: int) -> bool:
        """Holds one address; False where somebody has it, or listens there without having claimed it."""
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
    Pod addresses of one node. One that was given back is used again last, so that a late client finds nobody.

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
        """The address of a pod that is gone."""
        self._free.append(address)
