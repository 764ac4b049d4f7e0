"""
How long one engine step takes, so that the performance law emerges from the steps.

    with decodes:   a + b*decodes + c*context + p1*prefill_tokens
    prefill alone:  max(a, p0 + p1*prefill_tokens)

The fixed cost of a prompt, p0, is the launch of a pass that has no decode in it. A mixed step already pays `a` for
that, and the law's ITL has no p0 in it. N running requests that answer with osl tokens start N/osl prompts a step,
so a mixed step carries N*isl/osl prompt tokens: the fourth term of the law. No pass is faster than `a`, the time to
read the weights once.
"""

from dataclasses import dataclass, replace

from tidegate.domain.law import PerformanceLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoad:
    """
    What one step carries.

    Args:
        decodes: Requests that get their next token, >= 0.
        context_tokens: Context of those requests, summed.
        prefill_tokens: Prompt tokens computed, over all requests, >= 0.
    """

    decodes: int
    context_tokens: int
    prefill_tokens: int


def slower(law: PerformanceLaw, factor: float) -> PerformanceLaw:
    """The law with every time multiplied, and so every step."""
    return replace(
        law,
        a_s=law.a_s * factor,
        b_s=law.b_s * factor,
        c_s=law.c_s * factor,
        p0_s=law.p0_s * factor,
        p1_s=law.p1_s * factor,
    )


def step_s(law: PerformanceLaw, load: StepLoad) -> float:
    """Seconds of one step under the law; > 0 for a law with `a_s` > 0."""
    if load.decodes == 0:
        return max(law.a_s, law.p0_s + law.p1_s * load.prefill_tokens)
    decode = law.a_s + law.b_s * load.decodes + law.c_s * load.context_tokens
    return decode + law.p1_s * load.prefill_tokens
