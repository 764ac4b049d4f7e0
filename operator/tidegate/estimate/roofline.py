"""
A law from size and data sheet alone, for what nobody measured.

In:    how a tier serves its model.
Out:   coefficients that are right within a factor of about two.

A decode step reads the weights once and each running request's context once; a prompt token costs two operations
per weight it passes through. The shares of peak that are reached were set against the table of priors (Llama 8B and
70B, Qwen3 32B on A100, H100, H200, L40S, B200; 2026-11-21).
"""

from dataclasses import dataclass

from tidegate.estimate.models import Precision
from tidegate.estimate.serving import Serving

BANDWIDTH_REACHED = 0.9
BANDWIDTH_REACHED_KV = 0.85
FLOPS_REACHED = {"bf16": 0.72, "fp8": 0.5, "fp4": 0.35}
# Weight-only formats compute in bf16 and pay for unpacking.
UNPACKING = {Precision.INT4: 0.65, Precision.INT8: 0.95, Precision.FP8: 0.95, Precision.NVFP4: 0.65}
# Launches, sampling, scheduling of an 8 B model; grows with depth as KV bytes do.
STEP_OVERHEAD_S = 1.2e-3
KV_BYTES_8B = 131_072
# One decoding request costs about half of what a prompt token costs (its matrices are read anyway).
DECODE_OVER_PREFILL = 0.55
PROMPT_OVER_STEP = 0.55
# Splitting in two makes weights and arithmetic 1.55 times faster, not 2: the parts have to be added up again.
PARALLEL_EXPONENT = 0.65
# A mixture of experts reads about this many times what one token passes through at usual batch sizes.
EXPERTS_READ = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The five coefficients of the law, s (see `PerformanceLaw`)."""

    a_s: float
    b_s: float
    c_s: float
    p0_s: float
    p1_s: float

    def times(self, factors: "Coefficients") -> "Coefficients":
        """Each coefficient times its own factor."""
        return Coefficients(
            a_s=self.a_s * factors.a_s,
            b_s=self.b_s * factors.b_s,
            c_s=self.c_s * factors.c_s,
            p0_s=self.p0_s * factors.p0_s,
            p1_s=self.p1_s * factors.p1_s,
        )

    def over(self, other: "Coefficients") -> "Coefficients":
        """Each coefficient over another's, all above 0."""
        return Coefficients(
            a_s=self.a_s / other.a_s,
            b_s=self.b_s / other.b_s,
            c_s=self.c_s / other.c_s,
            p0_s=self.p0_s / other.p0_s,
            p1_s=self.p1_s / other.p1_s,
        )


def roofline(serving: Serving) -> Coefficients:
    """Coefficients by memory bandwidth and arithmetic; every one above 0."""
    shape, hardware = serving.shape, serving.hardware
    split = serving.tensor_parallel**PARALLEL_EXPONENT
    read = min(shape.params, EXPERTS_READ * shape.params_active) / shape.params * serving.weight_bytes
    overhead = STEP_OVERHEAD_S * shape.kv_bytes / KV_BYTES_8B
    a_s = overhead + read / (hardware.bandwidth * BANDWIDTH_REACHED) / split
    p1_s = 2 * shape.params_active / _operations(serving) / split
    return Coefficients(
        a_s=a_s,
        b_s=DECODE_OVER_PREFILL * p1_s,
        c_s=serving.kv_bytes / (serving.tensor_parallel * hardware.bandwidth * BANDWIDTH_REACHED_KV),
        p0_s=PROMPT_OVER_STEP * a_s,
        p1_s=p1_s,
    )


def _operations(serving: Serving) -> float:
    """Operations/s one accelerator reaches on this precision."""
    flops = serving.hardware.flops
    native = {Precision.FP8: "fp8", Precision.NVFP4: "fp4"}.get(serving.precision, "")
    if native in flops:
        return flops[native] * FLOPS_REACHED[native]
    return flops["bf16"] * FLOPS_REACHED["bf16"] * UNPACKING.get(serving.precision, 1.0)
