"""
Extrapolation of the performance law: the product's fit, learned at N <= 16, predicts real vLLM runs at N >= 64.

    python -m benchmarks.law_extrapolation FOLDER

FOLDER contains `step_times.csv.gz`; its rows of kind `measured` are real vLLM runs (shipped with aiconfigurator-core
0.12.0, NVIDIA, Apache-2.0, some of them InferenceX records). They are closed-loop, so N is known.

Left out: Llama 8B on H200 (21 rows), whose batch is the configured maximum and not the actual one; and runs whose batch
does not fit into the KV memory, because their N is smaller than the batch (TTFTs of 5 to 30 s show it) and the product
never plans for such a load.
"""

import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.optimize import nnls

from tidegate.domain.spec import Accelerator, TierSpec, WorkloadTemplate
from tidegate.estimate.fit import common_factor, fit, predicted_s
from tidegate.estimate.law import coefficients_of
from tidegate.estimate.memory import Sample
from tidegate.estimate.priors import Prior, prior_of
from tidegate.estimate.roofline import Coefficients

LEARNED_UP_TO, ASKED_FROM = 16, 64
BATCH_NOT_TRUE = {("llama-3.1-8b", "h200")}
Config = tuple[str, str, str, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run: operating point, and whether its batch fits into the KV memory."""

    sample: Sample
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Errors:
    """
    Mean relative errors of the ITL at N >= 64 of one configuration.

    Args:
        runs: Number of runs at N >= 64.
        prior: Error of the built-in prior, unchanged.
        scalar: Error of the prior times one learned factor.
        free: Error of four coefficients fitted without a prior, all >= 0.
        ours: Error of the product's fit.
    """

    runs: int
    prior: float
    scalar: float
    free: float
    ours: float


def prior_for(config: Config) -> Prior:
    """The product's prior of a configuration."""
    model, hardware, precision, parallel = config
    arguments = ("--quantization", precision, "--tensor-parallel-size", str(parallel))
    tier = TierSpec(
        name="measured",
        quality=1.0,
        accelerator=hardware,
        accelerators_per_replica=parallel,
        replicas_min=0,
        replicas_max=1,
        workload=WorkloadTemplate(image="", args=arguments),
    )
    return prior_of(model, tier, Accelerator(name=hardware, price_usd_per_hour=0.0))


def measured(folder: Path) -> Mapping[Config, Sequence[Run]]:
    """Real runs by configuration."""
    runs: dict[Config, list[Run]] = defaultdict(list)
    with gzip.open(folder / "step_times.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            config = (row["model"], row["gpu"].removesuffix("_sxm"), row["dtype"], int(row["tp"]))
            if row["kind"] != "measured" or row["backend"] != "vllm" or config[:2] in BATCH_NOT_TRUE:
                continue
            n, isl, osl = float(row["batch"]), float(row["isl"]), float(row["osl"])
            sample = Sample(
                running=n, context=isl + osl / 2, interference=isl / osl, itl_s=float(row["tpot_ms"]) / 1000
            )
            room = prior_for(config).serving.kv_cache_tokens
            runs[config].append(Run(sample=sample, fits=n * (isl + osl) <= room))
    return runs


def errors_of(config: Config, runs: Sequence[Run]) -> Errors | None:
    """Errors of each way to learn; None without runs at both ends."""
    base = coefficients_of(prior_for(config))
    near = [r.sample for r in runs if r.sample.running <= LEARNED_UP_TO and r.fits]
    far = [r.sample for r in runs if r.sample.running >= ASKED_FROM and r.fits]
    if not near or not far:
        return None
    factor = common_factor(base, near)
    return Errors(
        runs=len(far),
        prior=error_of(base, far),
        scalar=error_of(scaled(base, factor), far),
        free=error_of(_free(near), far),
        ours=error_of(base.times(fit(base, near).factors), far),
    )


def scaled(law: Coefficients, factor: float) -> Coefficients:
    """Every coefficient times the same factor."""
    return law.times(Coefficients(a_s=factor, b_s=factor, c_s=factor, p0_s=factor, p1_s=factor))


def error_of(law: Coefficients, samples: Sequence[Sample]) -> float:
    """Mean relative error of the ITL."""
    return mean(abs(predicted_s(law, s) / s.itl_s - 1) for s in samples)


def _free(samples: Sequence[Sample]) -> Coefficients:
    """The law by relative least squares without a prior."""
    rows = [
        [1 / s.itl_s, s.running / s.itl_s, s.running * s.context / s.itl_s, s.running * s.interference / s.itl_s]
        for s in samples
    ]
    (a, b, c, p1), _ = nnls(np.array(rows), np.ones(len(rows)))
    return Coefficients(a_s=a, b_s=b, c_s=c, p0_s=0.0, p1_s=p1)


def table(folder: Path) -> Mapping[Config, Errors]:
    """Errors of every configuration with runs at both ends."""
    found = {config: errors_of(config, runs) for config, runs in sorted(measured(folder).items())}
    return {config: errors for config, errors in found.items() if errors is not None}


def main() -> None:
    """Print the table and its mean over configurations."""
    rows = table(Path(sys.argv[1]))
    print("| configuration | runs | prior | scalar | free fit | Tidegate |\n|---|---|---|---|---|---|")
    for (model, hardware, precision, parallel), e in rows.items():
        print(f"| {model} {hardware} {precision} x{parallel} | {e.runs} | {_cells(e)} |")
    means = Errors(
        runs=sum(e.runs for e in rows.values()),
        prior=mean(e.prior for e in rows.values()),
        scalar=mean(e.scalar for e in rows.values()),
        free=mean(e.free for e in rows.values()),
        ours=mean(e.ours for e in rows.values()),
    )
    print(f"| **mean** | {means.runs} | {_cells(means)} |")


def _cells(e: Errors) -> str:
    return " | ".join(f"{100 * value:.1f} %" for value in (e.prior, e.scalar, e.free, e.ours))


if __name__ == "__main__":
    main()
