"""
The demo: a day of traffic in minutes, and what Tidegate makes of it.

Question: what does it look like when it works? Enters: a manifest, traffic, a duration.
Leaves: a live view, a table at the end, and nothing running.
May import: every room of the sandbox, domain, rich.

    scenario   what is shown: manifests, nodes, traffic, how fast time passes
    stage      everything that runs: control plane, Prometheus, nodes, front, operator
    ledger     what the pods cost, from the moment they are bound
    scene      what is to be seen right now, gathered from all of that
    view       the scene on a terminal, or as lines
    verdict    the table at the end
    run        all of it in order
"""

from pathlib import Path

from tidegate.sandbox.demo.run import run
from tidegate.sandbox.demo.scenario import Options, Scenario

# What is shown where the user brings nothing.
MANIFEST = Path(__file__).with_name("demo.yaml")

__all__ = ["MANIFEST", "Options", "Scenario", "run"]
