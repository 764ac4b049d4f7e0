"""
How long one engine step takes.

Two kinds. LAW applies the performance law of `domain.law` to each step, so that the resulting ITL follows its four
terms: a step with decodes takes `a + b*n + c*context + p1*prompt tokens`; a step with prompts only takes
`p0 + p1*prompt tokens`, but at least `a` (the weights are read once either way).
TABLE adds measured parts: linear layers by tokens in the step, decode attention by batch and mean context, and
prompt attention `k * chunk * (prefix + chunk/2)`.
"""

from tidegate.sim.engine.jit import compiled
from tidegate.sim.engine.state import (
    ATTENTION,
    KIND,
    LAW,
    PER_CONTEXT,
    PER_DECODE,
    PER_PROMPT_TOKEN,
    PROMPT_BASE,
    STEP_BASE,
    WATTS_FULL,
    WATTS_IDLE,
    WATTS_KNEE,
    Floats,
    Tiers,
)


@compiled
def bracket(axis: Floats, value: float) -> int:
    """Index i with axis[i] <= value < axis[i+1]; outside the axis the first or last interval, for extrapolation."""
    low, high = 0, len(axis) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if axis[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@compiled
def along(axis: Floats, values: Floats, value: float) -> float:
    """Linear interpolation; constant before the first node, extrapolated with the last slope after the last."""
    if value <= axis[0]:
        return float(values[0])
    i = bracket(axis, value)
    share = (value - axis[i]) / (axis[i + 1] - axis[i])
    return float(values[i] + (values[i + 1] - values[i]) * share)


@compiled
def decode_line(tiers: Tiers, tier: int, decodes: int, context: float) -> tuple[float, float, float]:
    """
    Decode attention time of a TABLE tier, as a linear function of the sum of contexts, valid up to a limit.

    Returns:
        (time at `context`, s; slope per token of context; sum of contexts up to which the slope holds).
    """
    axis = tiers.decode_context
    mean = context / decodes
    i = bracket(axis, mean)
    low = along(tiers.decode_batch, tiers.decode_s[tier, :, i], decodes)
    high = along(tiers.decode_batch, tiers.decode_s[tier, :, i + 1], decodes)
    slope = (high - low) / (axis[i + 1] - axis[i])
    limit = axis[i + 1] * decodes if i + 2 < len(axis) else 1e18
    return low + slope * (mean - axis[i]), slope / decodes, limit


@compiled
def step_line(tiers: Tiers, tier: int, decodes: int, context: float) -> tuple[float, float, float]:
    """Time of a decode-only step, s, its slope per token of context, and the context up to which the slope holds."""
    row = tiers.scalars[tier]
    if row[KIND] == LAW:
        value = row[STEP_BASE] + row[PER_DECODE] * decodes + row[PER_CONTEXT] * context
        return value, row[PER_CONTEXT], 1e18
    value, slope, limit = decode_line(tiers, tier, decodes, context)
    return value + along(tiers.linear_tokens, tiers.linear_s[tier], decodes), slope, limit


@compiled
def least_s(tiers: Tiers, tier: int) -> float:
    """Lower bound of the time of a step, s."""
    row = tiers.scalars[tier]
    return float(row[STEP_BASE] if row[KIND] == LAW else tiers.linear_s[tier, 0])


@compiled
def step_s(tiers: Tiers, tier: int, decodes: int, context: float, prompt_tokens: int, attention: float) -> float:
    """
    Time of any step, s.

    Args:
        decodes: Requests that decode one token.
        context: Sum of their contexts, tokens.
        prompt_tokens: Prompt tokens computed in the step.
        attention: Sum of chunk * (prefix + chunk/2) over all prompt chunks, tokens squared.
    """
    row = tiers.scalars[tier]
    if row[KIND] == LAW:
        prompts = row[PER_PROMPT_TOKEN] * prompt_tokens
        if decodes == 0:
            return float(max(row[STEP_BASE], row[PROMPT_BASE] + prompts))
        return float(row[STEP_BASE] + row[PER_DECODE] * decodes + row[PER_CONTEXT] * context + prompts)
    total = along(tiers.linear_tokens, tiers.linear_s[tier], decodes + prompt_tokens) + row[ATTENTION] * attention
    if decodes > 0:
        total += decode_line(tiers, tier, decodes, context)[0]
    return float(total)


@compiled
def watts(tiers: Tiers, tier: int, running: float) -> float:
    """
    Power draw of one replica with `running` requests, W: a logistic function of log2(running).

    Source: H100 anchors of ML.ENERGY v3 (arXiv 2601.22076); other accelerators are scaled by board power, which is an
    estimate.
    """
    row = tiers.scalars[tier]
    share = 1.0 / (1.0 + 2.0 ** (-1.442695 * (log2(max(running, 1.0)) - row[WATTS_KNEE])))
    return float(row[WATTS_IDLE] + (row[WATTS_FULL] - row[WATTS_IDLE]) * share)


@compiled
def log2(value: float) -> float:
    """Binary logarithm of a value >= 1, linear between powers of two, which is enough for a power curve."""
    result = 0.0
    while value >= 2.0:
        value /= 2.0
        result += 1.0
    return result + value - 1.0
