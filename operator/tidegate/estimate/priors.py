"""
The prior: the law of a tier before anything was measured.

In:    model name, tier, accelerator class.
Out:   `Prior`: the law, its source and its confidence.

There are three sources, best first: the row of `priors.csv`; a near row (of another parallelism, model, accelerator or
precision, within `DISTANCE_MAX`) scaled by the ratio of two rooflines; the roofline alone. The user's own figures
override each of them field by field.

Source: `priors.csv` contains fits to predictions of aiconfigurator 0.12.0 (NVIDIA, Apache-2.0) for vLLM, which are
        based on measured kernels; bf16 and fp8 err about 5 % against real runs on Hopper, int4 is extrapolated by it.
"""

import csv
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from math import log2
from zlib import crc32

from tidegate.domain.law import PerformanceLaw, Provenance
from tidegate.domain.spec import Accelerator, PerformanceHint, TierSpec, WorkloadTemplate
from tidegate.estimate.models import Precision, shape_of
from tidegate.estimate.roofline import Coefficients, roofline
from tidegate.estimate.serving import Serving, serving_of
from tidegate.units import KILO, MILLISECONDS

# Confidence in each source, 0 to 1. The user's figures are for their own hardware.
CONFIDENCE_USER = 0.6
CONFIDENCE_TABLE = 0.5
CONFIDENCE_TABLE_INT4 = 0.35  # extrapolated by the source itself
CONFIDENCE_NEAR = 0.4  # at distance 0; decreases with the distance of the near row
CONFIDENCE_ROOFLINE = 0.15
CONFIDENCE_GUESS = 0.05  # model or accelerator unknown

# Factors on c with an fp8 KV cache: it halves the bytes read, but the kernels on H100 and H200 lose some of that.
FP8_KV_COST = {"h200": 0.7, "h100": 0.55}
FP8_KV_COST_OTHER = 0.5

# Distance of a row from a tier: one unit is a doubling of the model size, or a factor of four in parallelism. A row of
# another accelerator says little, one of another precision even less.
DISTANCE_PARALLEL = 0.5
DISTANCE_HARDWARE = 2.0
DISTANCE_PRECISION = 3.0
DISTANCE_MAX = 4.0
# Largest factor between a row and its own roofline; beyond that one of the two must be wrong.
RELATIVE_MAX = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """
    The law of a tier before anything was measured.

    Args:
        law: Coefficients and limits of one engine; most replicas have one engine.
        provenance: Source of the coefficients.
        confidence: Confidence in them, in [0, 1].
        serving: Configuration of the tier.
        mark: Checksum of the configuration; what was learned under one mark does not apply under another.
        base: Checksum of the coefficients; factors learned on one base do not apply to another.
        kv_stated: True if the user stated the size of the KV cache.
    """

    law: PerformanceLaw
    provenance: Provenance
    confidence: float
    serving: Serving
    mark: int
    base: int
    kv_stated: bool


def prior_of(model: str, tier: TierSpec, accelerator: Accelerator | None) -> Prior:
    """The prior of a tier. Never fails: what is not known is guessed, with low confidence."""
    workload = tier.workload
    what = (model, tier.name, tier.accelerators_per_replica)
    how = (workload.model, workload.args) if workload is not None else None
    where = (
        (accelerator.name, accelerator.product, accelerator.memory_gib, accelerator.board_power_w)
        if accelerator is not None
        else None
    )
    # Everything that a prior depends on. A tier contains mappings and is not hashable, so `lru_cache` cannot be used.
    key = (what, how, where, tier.hint)
    prior = _priors.get(key)
    if prior is None:
        if len(_priors) >= PRIORS_MAX:
            _priors.clear()
        prior = _priors[key] = _prior(serving_of(model, tier, accelerator), tier.hint)
    return prior


_priors: dict[Hashable, Prior] = {}
PRIORS_MAX = 65536


def _prior(serving: Serving, hint: PerformanceHint) -> Prior:
    coefficients, provenance, confidence = _coefficients(serving)
    stated_tokens = hint.kv_cache_tokens
    kv_cache_tokens = serving.kv_cache_tokens if stated_tokens is None else stated_tokens / serving.data_parallel
    law = PerformanceLaw(
        a_s=_first(hint.a_s, coefficients.a_s),
        b_s=_first(hint.b_s, coefficients.b_s),
        c_s=_first(hint.c_s, coefficients.c_s),
        p0_s=_first(hint.p0_s, coefficients.p0_s),
        p1_s=_first(hint.p1_s, coefficients.p1_s),
        kv_cache_tokens=kv_cache_tokens,
        running_max=_first(hint.running_max, float(serving.running_max)),
    )
    stated = sum(value is not None for value in (hint.a_s, hint.b_s, hint.c_s, hint.p1_s))
    if stated:
        # Each of the four terms that the user states counts a quarter, with the user's confidence if that is higher.
        share = stated / 4
        confidence = confidence * (1 - share) + max(confidence, CONFIDENCE_USER) * share
        provenance = Provenance.USER
    return Prior(
        law=law,
        provenance=provenance,
        confidence=confidence,
        serving=serving,
        mark=_mark(serving),
        base=_base(law),
        kv_stated=stated_tokens is not None,
    )


def _mark(s: Serving) -> int:
    parts = (s.shape.name, s.shape.params, s.precision, s.hardware.name, s.tensor_parallel, s.pipeline_parallel)
    return crc32(repr((*parts, s.data_parallel, s.kv_fp8)).encode())


def _base(law: PerformanceLaw) -> int:
    """Checksum of the coefficients to four digits, so that rounding on another machine does not change it."""
    coefficients = (law.a_s, law.b_s, law.c_s, law.p0_s, law.p1_s)
    return crc32(" ".join(f"{value:.4g}" for value in coefficients).encode()) & 0xFFFF


def _first(stated: float | None, found: float) -> float:
    return found if stated is None else stated


def _coefficients(serving: Serving) -> tuple[Coefficients, Provenance, float]:
    row = rows().get(_row_key(serving))
    if row is not None:
        confidence = CONFIDENCE_TABLE_INT4 if serving.precision is Precision.INT4 else CONFIDENCE_TABLE
        return _with_kv(row, serving), Provenance.TABLE, confidence
    bare = roofline(serving)
    if not (serving.shape.known and serving.hardware.known):
        return bare, Provenance.ROOFLINE, CONFIDENCE_GUESS
    distance, relative = nearest(serving, relatives())
    if distance > DISTANCE_MAX:
        return bare, Provenance.ROOFLINE, CONFIDENCE_ROOFLINE
    return bare.times(relative), Provenance.ROOFLINE, max(CONFIDENCE_ROOFLINE, CONFIDENCE_NEAR / (1 + distance / 2))


RowKey = tuple[str, str, str, int]


def _row_key(serving: Serving) -> RowKey:
    return serving.shape.name, serving.hardware.name, serving.precision.value, serving.tensor_parallel


def _with_kv(row: Coefficients, serving: Serving) -> Coefficients:
    cost = FP8_KV_COST.get(serving.hardware.name, FP8_KV_COST_OTHER) if serving.kv_fp8 else 1.0
    return replace(row, c_s=row.c_s * cost)


def nearest(serving: Serving, usable: Mapping[RowKey, Coefficients]) -> tuple[float, Coefficients]:
    """Distance of the nearest row, and the factors between that row and its own roofline."""
    return min(((_distance(serving, key), relative) for key, relative in usable.items()), key=lambda pair: pair[0])


def _distance(serving: Serving, key: RowKey) -> float:
    name, hardware, precision, parallel = key
    size = abs(log2(serving.shape.params / shape_of(name).params))
    split = DISTANCE_PARALLEL * abs(log2(serving.tensor_parallel / parallel))
    elsewhere = DISTANCE_HARDWARE * (hardware != serving.hardware.name)
    return size + split + elsewhere + DISTANCE_PRECISION * (precision != serving.precision.value)


@cache
def relatives() -> Mapping[RowKey, Coefficients]:
    """Every row of the table divided by its own roofline."""
    return {key: row.over(roofline(_serving_of_row(key))).mapped(_bounded) for key, row in rows().items()}


def _serving_of_row(key: RowKey) -> Serving:
    name, hardware, precision, parallel = key
    accelerator = Accelerator(name=hardware, price_usd_per_hour=0.0)
    arguments = ("--quantization", precision, "--tensor-parallel-size", str(parallel))
    tier = TierSpec(
        name=precision,
        quality=1.0,
        accelerator=hardware,
        accelerators_per_replica=parallel,
        replicas_min=0,
        replicas_max=1,
        workload=WorkloadTemplate(image="", args=arguments),
    )
    return serving_of(name, tier, accelerator)


def _bounded(relative: float) -> float:
    return min(RELATIVE_MAX, max(1 / RELATIVE_MAX, relative))


@cache
def rows() -> Mapping[RowKey, Coefficients]:
    """The shipped table."""
    lines = csv.DictReader(files(__package__).joinpath("priors.csv").read_text().splitlines())
    return {
        (row["model"], row["hardware"], row["precision"], int(row["tensor_parallel"])): Coefficients(
            a_s=float(row["a_ms"]) * MILLISECONDS,
            b_s=float(row["b_ms"]) * MILLISECONDS,
            c_s=float(row["c_ms_per_1k"]) * MILLISECONDS / KILO,
            p0_s=float(row["p0_ms"]) * MILLISECONDS,
            p1_s=float(row["p1_ms_per_1k"]) * MILLISECONDS / KILO,
        )
        for row in lines
    }
