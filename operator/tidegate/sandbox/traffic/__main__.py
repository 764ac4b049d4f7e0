"""
`python -m tidegate.sandbox.traffic FILE`: the replayer in a separate process, so that nothing delays it.

FILE is JSON: `arrivals` (a JSON file of rows: seconds, prompt tokens, output tokens), `url`, `model`, `seed`, and
`outcomes`, the file that it writes: the unix time of the start, then one outcome per line as JSON.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidegate.sandbox.traffic.arrivals import Arrival
from tidegate.sandbox.traffic.outcomes import Outcome
from tidegate.sandbox.traffic.replay import Target, replay


def serve(config: dict[str, Any]) -> None:
    """Replay a configuration."""
    rows = json.loads(Path(config["arrivals"]).read_text())
    arrivals = [Arrival(time_s=t, prompt_tokens=p, output_tokens=o) for t, p, o in rows]
    with Path(config["outcomes"]).open("w", buffering=1) as file:
        file.write(f"{time.time()}\n")

        def ended(outcome: Outcome) -> None:
            file.write(json.dumps(asdict(outcome)) + "\n")

        target = Target(url=config["url"], model=config["model"])
        asyncio.run(replay(arrivals, target, seed=config["seed"], ended=ended))


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
