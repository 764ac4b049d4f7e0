"""
The law a tier starts with, before anything of it was seen.

In:    model name, tier, accelerator class.
Out:   `Prior`: the law, where it comes from, and how much it is to be believed.

Three sources, best first, and the user's own figures over all of them field by field: the row of `priors.csv`; a near
row (another parallelism, another model on the same accelerator and precision) moved by the ratio of two rooflines; the
roofline alone.

Source: `priors.csv` holds fits to what aiconfigurator 0.12.0 (NVIDIA, Apache-2.0) predicts for vLLM from measured
        kernels; bf16 and fp8 err about 5 % against real runs on Hopper, int4 is extrapolated by it.
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

# How much each source is believed, 0 to 1. The user's figures are about their own hardware.
CONFIDENCE_USER = 0.6
CONFIDENCE_TABLE = 0.5
CONFIDENCE_TABLE_INT4 = 0.35  # extrapolated by the source itself
CONFIDENCE_NEAR = 0.4  # falls with the distance of the row that is taken instead
CONFIDENCE_ROOFLINE = 0.15
CONFIDENCE_GUESS = 0.05  # model or accelerator unknown

# An fp8 KV cache halves what is read; on H200 the kernel gives back some of it.
FP8_KV_COST = {"h200": 0.7, "h100": 0.55}
FP8_KV_COST_OTHER = 0.5

# How far a row is from what is looked for: one unit is a doubling of the model or a fourfold split. A row of another
# accelerator tells little, one of another precision less.
DISTANCE_PARALLEL = 0.5
DISTANCE_HARDWARE = 2.0
DISTANCE_PRECISION = 3.0
DISTANCE_MAX = 4.0
# A row departs from its own roofline by no more than this factor, or one of the two is wrong.
RELATIVE_MAX = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """
    What is believed of a tier before anything of it was seen.

    Args:
        law: Coefficients and limits of one engine; most replicas are one.
        provenance: Where they come from.
        confidence: How much they are believed, in [0, 1].
        serving: How the tier serves.
        mark: Checksum of what makes two tiers alike; what was learned under one mark does not hold under another.
        base: Checksum of the coefficients; factors that were learned on one base do not hold on another.
        kv_stated: True where the user stated the KV memory.
    """

    law: PerformanceLaw
    provenance: Provenance
    confidence: float
    serving: Serving
    mark: int
    base: int
    kv_stated: bool


def prior_of(model: str, tier: TierSpec, accelerator: Accelerator | None) -> Prior:
    """The prior of a tier; never fails: what is not known is guessed and says so by its confidence."""
    workload = tier.workload
    what = (model, tier.name, tier.accelerators_per_replica)
    how = (workload.model, workload.args) if workload is not None else None
    where = (
        (accelerator.name, accelerator.product, accelerator.memory_gib, accelerator.board_power_w)
        if accelerator is not None
        else None
    )
    # All that a prior depends on. A tier holds mappings and cannot be hashed: `functools.lru_cache` does not fit.
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
        # Each of the four terms that the user states replaces a quarter of the doubt.
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
    """To four digits, so that arithmetic on another machine makes no other base."""
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
    """Distance of the nearest of some rows, and by what factors that row departs from its own roofline."""
    return min(((_distance(serving, key), relative) for key, relative in usable.items()), key=lambda pair: pair[0])


def _distance(serving: Serving, key: RowKey) -> float:
    name, hardware, precision, parallel = key
    size = abs(log2(serving.shape.params / shape_of(name).params))
    split = DISTANCE_PARALLEL * abs(log2(serving.tensor_parallel / parallel))
    elsewhere = DISTANCE_HARDWARE * (hardware != serving.hardware.name)
    return size + split + elsewhere + DISTANCE_PRECISION * (precision != serving.precision.value)


@cache
def relatives() -> Mapping[RowKey, Coefficients]:
    """Every row of the table over its own roofline."""
    return {key: _bounded(row.over(roofline(_serving_of_row(key)))) for key, row in rows().items()}


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


def _bounded(c: Coefficients) -> Coefficients:
    def bound(value: float) -> float:
        return min(RELATIVE_MAX, max(1 / RELATIVE_MAX, value))

    return Coefficients(a_s=bound(c.a_s), b_s=bound(c.b_s), c_s=bound(c.c_s), p0_s=bound(c.p0_s), p1_s=bound(c.p1_s))


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
