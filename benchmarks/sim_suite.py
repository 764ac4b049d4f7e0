"""
Generate docs/suite.md: all policies in all scenarios of the suite.

    python benchmarks/sim_suite.py --rows rows.jsonl [--jobs 2] [--seeds 1,2,3] [--policies NAMES] > docs/suite.md

Runs whose rows are in the file are not repeated. After a change of the core only tidegate's rows are stale:

    grep -v '"name": "tidegate"' rows.jsonl > fresh.jsonl
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tidegate.cli.backtest import SUITE_POLICIES
from tidegate.sim.compare import all_names
from tidegate.sim.standings import standings
from tidegate.sim.suite import SUITE
from tidegate.sim.table import markdown
from tidegate.sim.tournament import Plan, play

SEEDS = "1,2,3"
PAGE = """# The suite

Results of `tidegate backtest --suite`: {policies} policies, {scenarios} scenarios, seeds {seeds}; commit {commit}.
[Backtest](backtest.md) explains the scenarios, the policies and the columns. `!` marks a scenario in which a promise
was broken with at least one seed. `missed by` is how far the share of requests within their targets was short, on
average over the deployments that missed. `NAME*` had its knob tuned in hindsight for each scenario and seed.

{tables}"""


def main() -> None:
    """Do the missing runs and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file that keeps every run's figures")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--policies", default=SUITE_POLICIES)
    chosen = parser.parse_args()
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    names = all_names(chosen.policies)
    plan = Plan(scenarios=list(SUITE), seeds=seeds, policies=names, rows=chosen.rows, jobs=chosen.jobs)
    results = play(plan, lambda count, total, what: print(f"{count}/{total} {what}", file=sys.stderr, flush=True))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        PAGE.format(
            policies=len(names), scenarios=len(SUITE), seeds=", ".join(map(str, seeds)),
            commit=commit.stdout.strip() or "unknown", tables=markdown(results, standings(results)),
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
