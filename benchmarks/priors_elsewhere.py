"""
Quality of priors for models and accelerators that are not in the table of priors.

    python -m benchmarks.priors_elsewhere FOLDER

1. Each row of the table is predicted without the rows of its own model (or accelerator): from the nearest other row,
and
   from the roofline alone.
2. Starting from such a prior, the law is learned at N <= 16 and evaluated at N >= 64, on the served ITL that
   aiconfigurator 0.12.0 (NVIDIA, Apache-2.0) predicts for every configuration. The samples have three percent of noise.
"""

import csv
import gzip
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log
from pathlib import Path
from statistics import mean, median

from benchmarks.law_extrapolation import ASKED_FROM, LEARNED_UP_TO, Config, error_of, prior_for, scaled
from tidegate.estimate.fit import common_factor, fit
from tidegate.estimate.memory import Sample
from tidegate.estimate.priors import nearest, relatives, rows
from tidegate.estimate.roofline import Coefficients, roofline

NAMES = ("a_s", "b_s", "c_s", "p1_s")
NOISE = 0.03
ASKED_UP_TO = 256
Away = Callable[[Config, Config], bool]
AWAY: Mapping[str, Away] = {
    "another model": lambda own, other: own[0] != other[0],
    "another accelerator": lambda own, other: own[1] != other[1],
}


def moved(own: Config, away: Away) -> Coefficients:
    """The prior of a configuration, derived from the nearest row that `away` allows."""
    serving = prior_for(own).serving
    usable = {key: relative for key, relative in relatives().items() if away(own, key)}
    return roofline(serving).times(nearest(serving, usable)[1])


def factors_off(found: Mapping[Config, Coefficients]) -> str:
    """Median factor by which each coefficient differs from the table."""
    table = rows()

    def factor(name: str) -> float:
        return exp(median(abs(log(getattr(law, name) / getattr(table[key], name))) for key, law in found.items()))

    return ", ".join(f"{name.removesuffix('_s')} {factor(name):.2f}" for name in NAMES)


def served(folder: Path) -> Mapping[Config, list[Sample]]:
    """Served ITL as predicted by aiconfigurator, by configuration, without points that exceed memory or prefill."""
    found: dict[Config, list[Sample]] = defaultdict(list)
    with gzip.open(folder / "step_times.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            config = (row["model"], row["gpu"].removesuffix("_sxm"), row["dtype"], int(row["tp"]))
            if row["kind"] != "agg_estimate" or config not in rows():
                continue
            if "1" in (row["kv_over_capacity"], row["prefill_saturated"]):
                continue
            n, isl, osl = float(row["batch"]), float(row["isl"]), float(row["osl"])
            found[config].append(
                Sample(running=n, context=isl + osl / 2, interference=isl / osl, itl_s=float(row["tpot_ms"]) / 1000)
            )
    return found


def learned(folder: Path, away: Away) -> tuple[int, float, float]:
    """Number of configurations, and mean errors at N >= 64 of one learned factor and of the product's fit."""
    rng = random.Random(1)
    one, ours = [], []
    for config, samples in sorted(served(folder).items()):
        near = [replace(s, itl_s=s.itl_s * rng.lognormvariate(0, NOISE)) for s in samples if s.running <= LEARNED_UP_TO]
        far = [s for s in samples if ASKED_FROM <= s.running <= ASKED_UP_TO]
        if len(near) < 6 or len(far) < 3:
            continue
        base = moved(config, away)
        one.append(error_of(scaled(base, common_factor(base, near)), far))
        ours.append(error_of(base.times(fit(base, near).factors), far))
    return len(ours), mean(one), mean(ours)


def main() -> None:
    """Print both parts."""
    table = rows()
    print("roofline alone: off by", factors_off({key: roofline(prior_for(key).serving) for key in table}))
    for name, away in AWAY.items():
        print(f"nearest row of {name}: off by", factors_off({key: moved(key, away) for key in table}))
    for name, away in AWAY.items():
        count, one, ours = learned(Path(sys.argv[1]), away)
        print(f"learned from a prior of {name}, {count} configurations: one factor {one:.1%}, Tidegate {ours:.1%}")


if __name__ == "__main__":
    main()
