"""
Generate the built-in table of priors from a table of step times.

    python -m benchmarks.fit_priors FOLDER > operator/tidegate/estimate/priors.csv

FOLDER contains `priors.csv` (published fits, used unchanged) and `step_times.csv.gz` (decode and prefill steps
predicted by aiconfigurator 0.12.0, NVIDIA, Apache-2.0, from kernels that it measured). Configurations without a
published fit are fitted in the same way: relative least squares, coefficients >= 0, N <= 256 and N*context <= 600,000,
prompts of 128 to 16,384 tokens. Four and eight L40S are left out, because the source's model of their interconnect is
not credible.
"""

import csv
import gzip
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

HEADER = ("model", "hardware", "precision", "tensor_parallel", "a_ms", "b_ms", "c_ms_per_1k", "p0_ms", "p1_ms_per_1k")
PRECISIONS = ("bf16", "fp8", "int4", "nvfp4")
Config = tuple[str, str, str, int]


def published(folder: Path) -> dict[Config, tuple[float, ...]]:
    """The published fits."""
    rows: dict[Config, tuple[float, ...]] = {}
    for row in csv.DictReader((folder / "priors.csv").open()):
        key = (row["model"].split("/")[1].lower(), row["gpu"], row["precision"], int(row["tensor_parallel"]))
        rows[key] = tuple(float(row[name]) for name in HEADER[4:])
    return rows


def fitted(folder: Path) -> dict[Config, tuple[float, ...]]:
    """Our fits to every configuration in the table of step times."""
    decode, prefill = defaultdict(list), defaultdict(list)
    with gzip.open(folder / "step_times.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            key = (row["model"], row["gpu"].removesuffix("_sxm"), row["dtype"], int(row["tp"]))
            if row["dtype"] not in PRECISIONS or (key[1] == "l40s" and key[3] > 2):
                continue
            if row["kind"] == "decode_step":
                decode[key].append((float(row["batch"]), float(row["isl"]), float(row["tpot_ms"])))
            elif row["kind"] == "prefill_step":
                prefill[key].append((float(row["isl"]), float(row["ttft_ms"])))
    return {key: (*_decode(np.array(decode[key])), *_prefill(np.array(prefill[key]))) for key in decode}


def _decode(steps: np.ndarray) -> np.ndarray:
    n, context, step_ms = steps[(steps[:, 0] <= 256) & (steps[:, 0] * steps[:, 1] <= 600e3)].T
    return _relative(np.c_[np.ones_like(n), n, n * context / 1e3], step_ms)


def _prefill(steps: np.ndarray) -> np.ndarray:
    tokens, step_ms = steps[(steps[:, 0] >= 128) & (steps[:, 0] <= 16384)].T
    return _relative(np.c_[np.ones_like(tokens), tokens / 1e3], step_ms)


def _relative(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    coefficients, _ = nnls(columns / target[:, None], np.ones(len(target)))
    return coefficients


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    rows = fitted(folder) | published(folder)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(HEADER)
    for key in sorted(rows):
        out.writerow((*key, *(f"{value:.4g}" for value in rows[key])))


if __name__ == "__main__":
    main()
