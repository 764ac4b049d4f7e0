"""
The outcome of a request as its client saw it, and summaries of many.

In:    times by the client's clock.
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
        late_s: How much later it was sent, s: the replayer's own lag.
        ttft_s: Time from sending to the first token, s; None: there was none.
        itl_s: Mean time between its tokens, s; None: fewer than two tokens.
        output_tokens: Tokens received.
        ended_s: When it ended, s from the start of the replay.
        error: Why it failed (HTTP status, error event, broken connection); empty if it did not.
    """

    arrival_s: float
    late_s: float
    ttft_s: float | None
    itl_s: float | None
    output_tokens: int
    ended_s: float
    error: str = ""

    def good(self, slo: Slo) -> bool:
        """Whether it was complete and met both targets. For a single token only TTFT counts."""
        if self.error or self.ttft_s is None or self.ttft_s > slo.ttft_s:
            return False
        return self.itl_s is None or self.itl_s <= slo.itl_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    Summary of many requests; None where nothing was observed.

    Args:
        requests, failed: How many ended, and how many of them with an error.
        attainment: Share that met both targets, in [0, 1]; failed requests did not.
        ttft_s_p50, ttft_s_p95, itl_s_p50, itl_s_p95: Percentiles over requests with tokens, s.
        good_tokens, tokens: Output tokens of requests that met both targets, and of all.
        late_s_worst: Largest lag of the replayer, s.
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
    """Summarize outcomes."""
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
