"""
`python -m tidegate.sandbox.emulator --model NAME ...`: one emulated server, with vLLM's own arguments.

The law comes from the environment variable `TIDEGATE_LAW`: the fields of a `PerformanceLaw` as JSON.
"""

import asyncio
import json
import os
import signal
import sys

from tidegate.domain.law import PerformanceLaw
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.faults import FAULT_VARIABLE, Fault
from tidegate.sandbox.emulator.server import LAW_VARIABLE, EmulatedServer, ServerSpec


async def serve(arguments: list[str]) -> int:
    """Run until it has drained after SIGTERM, or until a fault ends it; returns the exit code."""
    options = parse(arguments, os.environ)
    law = PerformanceLaw(**json.loads(os.environ[LAW_VARIABLE]))
    fault = Fault.parse(os.environ.get(FAULT_VARIABLE))
    server = EmulatedServer(ServerSpec(options=options, law=law, address=options.host, fault=fault))
    loop, stops = asyncio.get_running_loop(), set()
    loop.add_signal_handler(signal.SIGTERM, lambda: stops.add(loop.create_task(server.terminate())))
    loop.add_signal_handler(signal.SIGINT, lambda: stops.add(loop.create_task(server.kill())))
    await server.start()
    return await server.exited


if __name__ == "__main__":
    if LAW_VARIABLE not in os.environ:
        sys.exit(f"{LAW_VARIABLE} is not set: " + (__doc__ or "").strip().splitlines()[-1])
    sys.exit(asyncio.run(serve(sys.argv[1:])))
