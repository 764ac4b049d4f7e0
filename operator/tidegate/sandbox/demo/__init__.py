"""
The demo: a day of traffic in minutes, and how Tidegate handles it.

Question: what does Tidegate look like when it works?
Enters:   manifests, traffic, a duration.
Leaves:   a live view and a table at the end; nothing keeps running.
May import: every room of the sandbox, domain, rich.

    scenario   the inputs: manifests, nodes, traffic, time scales
    stage      everything that runs: control plane, Prometheus, nodes, front end, operator
    ledger     what the pods cost, from when they are bound
    scene      the current state, collected from all of that
    view       shows the scene on a terminal, or as lines
    verdict    the table at the end
    run        runs all of it in order
"""

from pathlib import Path

from tidegate.sandbox.demo.run import run
from tidegate.sandbox.demo.scenario import Options, Scenario

# The default manifest.
MANIFEST = Path(__file__).with_name("demo.yaml")

__all__ = ["MANIFEST", "Options", "Scenario", "run"]
