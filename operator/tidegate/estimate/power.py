"""
Power draw of a replica.

    P(N) = low + (high - low) / (1 + exp(-k*(log2 N - x0)))      per accelerator; N requests run on its engine

Source: vllm-project/semantic-router `src/fleet-sim`, fitted on an H100 with under 3 % error (k 1.0, x0 4.2). Other
        accelerators are estimated with the same formula and their own limits.
"""

from math import exp, log2

from tidegate.estimate.serving import Serving

STEEPNESS = 1.0
MIDDLE_LOG2 = {"h100": 4.2, "a100": 2.5}
MIDDLE_LOG2_OTHER = 4.2


def power_w(serving: Serving, running: float) -> float | None:
    """Draw of one replica with this many running requests, W; None if the accelerator is not known."""
    draw = serving.hardware.draw_w
    if draw is None:
        return None
    low, high = draw
    middle = MIDDLE_LOG2.get(serving.hardware.name, MIDDLE_LOG2_OTHER)
    share = 1 / (1 + exp(-STEEPNESS * (log2(max(1.0, running / serving.data_parallel)) - middle)))
    return serving.accelerators * (low + (high - low) * share)
