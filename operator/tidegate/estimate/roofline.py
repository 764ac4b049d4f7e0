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
FLOPS_REACHED_BF16, FLOPS_REACHED_FP8, FLOPS_REACHED_FP4 = 0.72, 0.5, 0.35
# Weight-only formats compute in bf16 and pay for unpacking.
UNPACKING = {Precision.INT4: 0.65, Precision.INT8: 0.95, Precision.FP8: 0.95, Precision.NVFP4: 0.65}
# Launches, sampling, scheduling of an 8 B model; grows with depth as KV bytes do.
STEP_OVERHEAD_S = 1.2e-3
KV_BYTES_8B = 131_072
# One decoding request costs about half of what a prompt token costs (its matrices are read anyway).
DECODE_OVER_PREFILL = 0.55
PROMPT_OVER_STEP = 0.55
# What splitting gains, as powers of the parallelism: reading weights and context the whole, arithmetic less (the parts
# have to be added up again), the fixed time of a prompt next to nothing. Adding up also costs each step.
PARALLEL_PREFILL = 0.75
PARALLEL_REQUEST = 0.4
PARALLEL_PROMPT = 0.1
PARALLEL_OVERHEAD = 1.6
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
    parallel = serving.tensor_parallel
    overhead = STEP_OVERHEAD_S * shape.kv_bytes / KV_BYTES_8B
    share_read = min(shape.params, EXPERTS_READ * shape.params_active) / shape.params
    weights_s = share_read * serving.weight_bytes / (hardware.bandwidth * BANDWIDTH_REACHED)
    token_s = 2 * shape.params_active / _operations(serving)
    return Coefficients(
        a_s=overhead * (PARALLEL_OVERHEAD if parallel > 1 else 1.0) + weights_s / parallel,
        b_s=DECODE_OVER_PREFILL * token_s / parallel**PARALLEL_REQUEST,
        c_s=serving.kv_bytes * serving.kv_copies / (parallel * hardware.bandwidth * BANDWIDTH_REACHED_KV),
        p0_s=PROMPT_OVER_STEP * (overhead + weights_s) / parallel**PARALLEL_PROMPT,
        p1_s=token_s / parallel**PARALLEL_PREFILL,
    )


def _operations(serving: Serving) -> float:
    """Operations/s one accelerator reaches on this precision."""
    hardware, precision = serving.hardware, serving.precision
    if precision is Precision.FP8 and hardware.flops_fp8 is not None:
        return hardware.flops_fp8 * FLOPS_REACHED_FP8
    if precision is Precision.NVFP4 and hardware.flops_fp4 is not None:
        return hardware.flops_fp4 * FLOPS_REACHED_FP4
    return hardware.flops_bf16 * FLOPS_REACHED_BF16 * UNPACKING.get(precision, 1.0)
