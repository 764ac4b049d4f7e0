"""
`python -m tidegate.sandbox.kubelet FILE`: hollow nodes as a process of their own, until SIGTERM.

FILE is JSON: `url`, `ca_file`, `token` of the API server, `pace`, `seed`, and `machines` (fields of `Machine`).
A process of its own, because the servers' steps and the rest of the sandbox should not wait for one interpreter.
"""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.kube import Kube
from tidegate.sandbox.kubelet.machines import Machine
from tidegate.sandbox.kubelet.nodes import HollowNodes


async def serve(config: dict[str, object]) -> None:
    """Run the nodes of a configuration until SIGTERM."""
    account = Account(
        url=str(config["url"]),
        ca_file=Path(str(config["ca_file"])) if config.get("ca_file") else None,
        token=str(config["token"]),
    )
    machines = config["machines"]
    assert isinstance(machines, list), "a list of machines"
    async with account.session() as session:
        nodes = HollowNodes(
            Kube(session),
            [Machine(**machine) for machine in machines],
            pace=float(str(config["pace"])),
            seed=int(str(config["seed"])),
        )
        running = asyncio.ensure_future(nodes.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            return


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
