"""
The performance law of one replica: how long a token takes and how long a prompt takes.

    ITL(N)  = a + b*N + c*N*ctx + p1*N*isl*(1 - hit)/osl                seconds per output token
    prefill = p0 + p1*isl*(1 - hit)                                     seconds per prompt

N = running requests, ctx = their mean context (isl + osl/2 if all answers are equally long), isl = prompt tokens, osl =
output tokens, hit = share of prompt tokens found in the prefix cache. The last term of ITL is prefill that shares steps
with decode: on average each decode step also processes N*isl/osl prompt tokens.

Source: fitted to 306 points of real vLLM runs, 2.3 % mean error (11.9 % without the last term).
"""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.errors import SpecError


class Provenance(StrEnum):
    """Where a law's coefficients come from, weakest first."""

    ROOFLINE = "Roofline"  # model size, bandwidth and FLOPs only
    TABLE = "Table"  # the shipped priors for this model, accelerator, precision and parallelism
    USER = "User"  # spec.tiers[].performance
    SCALED = "Scaled"  # a prior times one learned factor
    LEARNED = "Learned"  # all coefficients fitted to observations


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """
    What an average request looks like.

    Args:
        prompt_tokens: isl, tokens per request, > 0.
        output_tokens: osl, tokens per request, > 0.
        prefix_hit: Share of prompt tokens served from the prefix cache, in [0, 1).
        prompt_variation: Coefficient of variation of prompt lengths, >= 0.
        output_variation: Coefficient of variation of output lengths, >= 0.
    """

    prompt_tokens: float
    output_tokens: float
    prefix_hit: float = 0.0
    prompt_variation: float = 1.0
    output_variation: float = 1.0

    def __post_init__(self) -> None:
        if not (self.prompt_tokens > 0 and self.output_tokens > 0):
            raise SpecError(
                field="workload",
                value=(self.prompt_tokens, self.output_tokens),
                allowed="must be tokens per request, above 0",
            )

    @property
    def context_tokens(self) -> float:
        """
        Mean context of a running request: its prompt and the part of its answer that exists.

        That part is half the answer if all answers are equally long. Long answers run longer and so are
        over-represented: the mean over running requests is osl/2 * (1 + variation^2).
        """
        return self.prompt_tokens + self.output_tokens / 2 * (1.0 + self.output_variation**2)

    @property
    def prefill_tokens(self) -> float:
        """Prompt tokens that must be computed: those not found in the prefix cache."""
        return self.prompt_tokens * (1.0 - self.prefix_hit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceLaw:
    """
    Coefficients of the law, and the two limits that memory and the scheduler set on N.

    Args:
        a_s: Time of an empty decode step, s.
        b_s: Added per running request, s.
        c_s: Added per running request and token of its context, s.
        p0_s: Fixed time per prompt, s.
        p1_s: Added per prompt token, s.
        kv_cache_tokens: Tokens of context that fit into one replica, > 0.
        running_max: vLLM's max-num-seqs, >= 1.
    """

    a_s: float
    b_s: float
    c_s: float
    p0_s: float
    p1_s: float
    kv_cache_tokens: float
    running_max: float

    def itl_s(self, running: float, workload: Workload) -> float:
        """Mean seconds per output token with `running` (>= 1) requests in the batch."""
        return self.a_s + running * self.itl_slope_s(workload)

    def itl_slope_s(self, workload: Workload) -> float:
        """Seconds by which one more running request slows each token."""
        interference = self.p1_s * workload.prefill_tokens / workload.output_tokens
        return self.b_s + self.c_s * workload.context_tokens + interference

    def prefill_s(self, workload: Workload) -> float:
        """Seconds to compute a mean prompt on an otherwise empty replica."""
        return self.p0_s + self.p1_s * workload.prefill_tokens

    def running_limit(self, workload: Workload) -> float:
        """Most requests that can run at once: the scheduler's limit or KV memory, whichever is lower; at least 1."""
        # Memory must last until the end of the answer, otherwise requests are preempted and recomputed.
        held = max(workload.context_tokens, workload.prompt_tokens + workload.output_tokens)
        by_memory = self.kv_cache_tokens / held
        return max(1.0, min(self.running_max, by_memory))
