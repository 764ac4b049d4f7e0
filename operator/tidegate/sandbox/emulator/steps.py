"""
How long one engine step takes, such that the performance law results from the steps.

    with decodes:   a + b*decodes + c*context + p1*prefill_tokens
    prefill alone:  max(a, p0 + p1*prefill_tokens)

The fixed cost of a prompt, p0, is the launch of a step without decodes. A mixed step already pays `a` for that, and
the law's ITL does not include p0. N running requests with answers of osl tokens start N/osl prompts per step, so a
mixed step contains N*isl/osl prompt tokens: the fourth term of the law. No step is faster than `a`, the time to read
the weights once.
"""

from dataclasses import dataclass, replace

from tidegate.domain.law import PerformanceLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoad:
    """
    The work of one step.

    Args:
        decodes: Requests that decode one token, >= 0.
        context_tokens: Sum of their contexts.
        prefill_tokens: Prompt tokens computed, over all requests, >= 0.
    """

    decodes: int
    context_tokens: int
    prefill_tokens: int


def slower(law: PerformanceLaw, factor: float) -> PerformanceLaw:
    """The law with every step time multiplied by a factor."""
    return replace(
        law,
        a_s=law.a_s * factor,
        b_s=law.b_s * factor,
        c_s=law.c_s * factor,
        p0_s=law.p0_s * factor,
        p1_s=law.p1_s * factor,
    )


def step_s(law: PerformanceLaw, load: StepLoad) -> float:
    """Time of one step by the law, s; > 0 if the law's `a_s` is."""
    if load.decodes == 0:
        return max(law.a_s, law.p0_s + law.p1_s * load.prefill_tokens)
    decode = law.a_s + law.b_s * load.decodes + law.c_s * load.context_tokens
    return decode + law.p1_s * load.prefill_tokens
