"""
`python -m tidegate.sandbox.kubelet FILE`: hollow nodes in a separate process, until SIGTERM.

FILE is JSON: `url`, `ca_file`, `token` of the API server, `pace`, `seed`, `runtime` (`emulated` or `vllm`), and
`machines` (fields of `Machine`).
A separate process, so that the servers' steps do not compete with the rest of the sandbox for one interpreter.
"""

import asyncio
import json
import logging
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tidegate.errors import SourceError
from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.kube import Kube
from tidegate.sandbox.kubelet.machines import Machine
from tidegate.sandbox.kubelet.nodes import HollowNodes
from tidegate.sandbox.vllm.environment import find_environment
from tidegate.sandbox.vllm.factory import Factory


async def serve(config: dict[str, Any]) -> None:
    """Run the configured nodes until SIGTERM."""
    async with AsyncExitStack() as exits:
        session = await exits.enter_async_context(Account.from_json(config).session())
        factory = await exits.enter_async_context(_factory()) if config["runtime"] == "vllm" else None
        nodes = HollowNodes(
            Kube(session),
            [Machine(**machine) for machine in config["machines"]],
            pace=config["pace"],
            seed=config["seed"],
            factory=factory,
        )
        running = asyncio.ensure_future(nodes.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            return


def _factory() -> Factory:
    environment = find_environment()
    if environment is None:
        raise SourceError(source="vllm", reason="NotInstalled", detail="`tidegate sandbox vllm-env` installs it")
    return Factory(environment)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
