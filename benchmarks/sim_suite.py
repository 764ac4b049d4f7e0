"""
The suite as a Markdown table, for the docs.

    python benchmarks/sim_suite.py [SCENARIO ...] [--policies tidegate,static,...]
"""

import argparse

from tidegate.sim.compare import all_names, compare
from tidegate.sim.suite import SUITE, named
from tidegate.sim.table import cells, relative

POLICIES = "tidegate,static,slo-keda,hpa-gpu,clairvoyant,fluid"
HEADER = (
    "| scenario | policy | attainment | $ per M good tokens | GPU h | J per good token | quality | actions | vs best |"
)


def main() -> None:
    """Print row by row, as runs end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=list(SUITE))
    parser.add_argument("--policies", default=POLICIES)
    chosen = parser.parse_args()
    print(HEADER + "\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in chosen.scenarios:
        scores = {p: r.score for p, r in compare(named(name), all_names(chosen.policies)).items()}
        for policy, one in scores.items():
            figures = " | ".join(cells(one, relative(scores, policy)))
            print(f"| {name} | {one.policy} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
