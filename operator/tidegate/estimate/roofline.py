"""
A law from model size and data sheet alone, for combinations without a row in the table of priors.

In:    the configuration of a tier.
Out:   coefficients that are right within a factor of about two.

A decode step reads the weights once and the context of each running request once; a prompt token costs two operations
per weight that it passes through. The shares of peak performance were fitted to the table of priors (Llama 8B and 70B,
Qwen3 32B on A100, H100, H200, L40S, B200; 2026-11-21).
"""

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.estimate.models import Precision, depth_of
from tidegate.estimate.serving import Serving

BANDWIDTH_REACHED = 0.9
BANDWIDTH_REACHED_KV = 0.85
FLOPS_REACHED_BF16, FLOPS_REACHED_FP8, FLOPS_REACHED_FP4 = 0.72, 0.5, 0.35
# Weight-only formats compute in bf16 and need time for unpacking.
UNPACKING = {Precision.INT4: 0.65, Precision.INT8: 0.95, Precision.FP8: 0.95, Precision.NVFP4: 0.65}
# Kernel launches, sampling and scheduling per step of an 8 B model; grows with depth.
STEP_OVERHEAD_S = 1.2e-3
# One decoding request costs about half of what a prompt token costs (the matrices are read anyway).
DECODE_OVER_PREFILL = 0.55
PROMPT_OVER_STEP = 0.55
# Speed-up by tensor parallelism, as exponents: reading weights and context scales fully, arithmetic less (partial
# results must be summed up), the fixed time of a prompt hardly at all. Summing up also costs time in each step.
PARALLEL_PREFILL = 0.75
PARALLEL_REQUEST = 0.4
PARALLEL_PROMPT = 0.1
PARALLEL_OVERHEAD = 1.6
# At usual batch sizes a mixture of experts reads about this many times the active weights.
EXPERTS_READ = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The five coefficients of the law, s (see `PerformanceLaw`)."""

    a_s: float
    b_s: float
    c_s: float
    p0_s: float
    p1_s: float

    def mapped(self, change: Callable[[float], float]) -> "Coefficients":
        """Each coefficient changed in the same way."""
        return Coefficients(
            a_s=change(self.a_s),
            b_s=change(self.b_s),
            c_s=change(self.c_s),
            p0_s=change(self.p0_s),
            p1_s=change(self.p1_s),
        )

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
        """Each coefficient divided by that of `other`, all above 0."""
        return Coefficients(
            a_s=self.a_s / other.a_s,
            b_s=self.b_s / other.b_s,
            c_s=self.c_s / other.c_s,
            p0_s=self.p0_s / other.p0_s,
            p1_s=self.p1_s / other.p1_s,
        )


def roofline(serving: Serving) -> Coefficients:
    """Coefficients from memory bandwidth and arithmetic; all above 0."""
    shape, hardware = serving.shape, serving.hardware
    parallel = serving.tensor_parallel
    overhead = STEP_OVERHEAD_S * depth_of(shape.params_active)
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
    """Operations/s that one accelerator reaches with this precision."""
    hardware, precision = serving.hardware, serving.precision
    if precision is Precision.FP8 and hardware.flops_fp8 is not None:
        return hardware.flops_fp8 * FLOPS_REACHED_FP8
    if precision is Precision.NVFP4 and hardware.flops_fp4 is not None:
        return hardware.flops_fp4 * FLOPS_REACHED_FP4
    return hardware.flops_bf16 * FLOPS_REACHED_BF16 * UNPACKING.get(precision, 1.0)
