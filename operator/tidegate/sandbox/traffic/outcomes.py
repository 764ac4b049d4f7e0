"""
What one client saw, and what many saw together.

In:    times as a client's clock has them.
Out:   attainment, percentiles, good tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.domain.spec import Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    One request as its client saw it.

    Args:
        arrival_s: When it was due, s from the start of the replay.
        late_s: How long after that it was really sent: the replayer's own lag.
        ttft_s: From sending to the first token; None: none came.
        itl_s: Mean gap between its tokens; None where there were fewer than two.
        output_tokens: Tokens that came.
        ended_s: When it was over, s from the start of the replay.
        error: Empty, or why it failed: an HTTP status, an error event, a broken connection.
    """

    arrival_s: float
    late_s: float
    ttft_s: float | None
    itl_s: float | None
    output_tokens: int
    ended_s: float
    error: str = ""

    def good(self, slo: Slo) -> bool:
        """Whether it came whole and inside both targets. A single token has no gap to be late with."""
        if self.error or self.ttft_s is None or self.ttft_s > slo.ttft_s:
            return False
        return self.itl_s is None or self.itl_s <= slo.itl_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    Many requests together; None where nothing was observed.

    Args:
        requests, failed: How many ended, and how many of them in an error.
        attainment: Share inside both targets, in [0, 1]; failed requests are outside.
        ttft_s_p50, ttft_s_p95, itl_s_p50, itl_s_p95: Percentiles over requests that had tokens.
        good_tokens, tokens: Output tokens of requests inside both targets, and of all.
        late_s_worst: The replayer's own worst lag.
    """

    requests: int
    failed: int
    attainment: float | None
    ttft_s_p50: float | None
    ttft_s_p95: float | None
    itl_s_p50: float | None
    itl_s_p95: float | None
    good_tokens: int
    tokens: int
    late_s_worst: float


def summary(outcomes: Sequence[Outcome], slo: Slo) -> Summary:
    """What those requests saw together."""
    good = [outcome for outcome in outcomes if outcome.good(slo)]
    ttft = [o.ttft_s for o in outcomes if o.ttft_s is not None]
    itl = [o.itl_s for o in outcomes if o.itl_s is not None]
    return Summary(
        requests=len(outcomes),
        failed=sum(1 for o in outcomes if o.error),
        attainment=len(good) / len(outcomes) if outcomes else None,
        ttft_s_p50=_quantile(ttft, 0.5),
        ttft_s_p95=_quantile(ttft, 0.95),
        itl_s_p50=_quantile(itl, 0.5),
        itl_s_p95=_quantile(itl, 0.95),
        good_tokens=sum(o.output_tokens for o in good),
        tokens=sum(o.output_tokens for o in outcomes),
        late_s_worst=max((o.late_s for o in outcomes), default=0.0),
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None
