"""
Pod addresses, and the loopback addresses behind them.

Kubernetes refuses 127.0.0.0/8 in Endpoints and EndpointSlices. So a pod reports an ordinary address, 10.244.NODE.N,
and its server listens on 127.244.NODE.N. Whoever connects (Prometheus, the front) swaps the first number; no packet
leaves loopback.
"""

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
