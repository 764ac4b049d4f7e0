"""
Start-up time of a replica, from request to ready.

In:    measured start-up times; before there are any, the size of the weights.
Out:   the expected time, and the time after which a replica counts as stuck.
"""

from math import sqrt

from tidegate.estimate.memory import StartupMemory, digits
from tidegate.estimate.serving import Serving

# The part that does not grow with the model: pod, server, CUDA graphs, with the image already on the node. Loading an
# 8 B model took 35 to 126 s, median 68 s; 70 B on eight accelerators 82 to 226 s (AccelMark, `model_load_seconds`).
BASE_S = 60.0
LOAD_BYTES_PER_S = 1.0e9
PRIOR_MAX_S = 600.0
# A replica is late after 1.5 times the expected time or the expected time plus four mean deviations, whichever is
# longer, plus 45 s.
LATE_FACTOR = 1.5
LATE_DEVIATIONS = 4.0
LATE_MORE_S = 45.0
# Load times from the same source lie within a factor of two of their median: their mean deviation is less than half.
PRIOR_DEVIATION_SHARE = 0.5
SEEN_MAX = 20
LEARNING_SHARE = 0.3
# A start-up of up to 20 minutes is believed for any model: weights over a slow link take ten, and one start in a
# hundred half as long again. A longer one counts as at most four times the expected time, because the pod may have
# waited hours for a free accelerator. If starts take 6000 s instead of 600, the mean is 4120 s after four of them.
BELIEVED_S = 1200.0
LEAP_MAX = 4.0


def prior_s(serving: Serving) -> float:
    """Expected start-up time before any was measured, s."""
    return min(PRIOR_MAX_S, BASE_S + serving.weight_bytes / LOAD_BYTES_PER_S / sqrt(serving.tensor_parallel))


def remember(before: StartupMemory | None, serving: Serving, startup_s: float) -> StartupMemory:
    """The memory with one more start-up time (s, > 0), capped at what is believed."""
    believed_s = min(startup_s, max(BELIEVED_S, LEAP_MAX * expected_s(before, serving)))
    last_s = digits(startup_s)
    if before is None:
        return StartupMemory(mean_s=digits(believed_s), deviation_s=digits(believed_s / 4), last_s=last_s, seen=1)
    share = max(LEARNING_SHARE, 1 / (before.seen + 1))
    deviation = abs(believed_s - before.mean_s)
    return StartupMemory(
        mean_s=digits(before.mean_s + share * (believed_s - before.mean_s)),
        deviation_s=digits(before.deviation_s + share * (deviation - before.deviation_s)),
        last_s=last_s,
        seen=min(SEEN_MAX, before.seen + 1),
    )


def expected_s(memory: StartupMemory | None, serving: Serving) -> float:
    """Expected start-up time, s."""
    return memory.mean_s if memory is not None else prior_s(serving)


def late_s(memory: StartupMemory | None, serving: Serving) -> float:
    """Age at which a replica that is still starting counts as stuck, s after its request."""
    mean_s = expected_s(memory, serving)
    deviation_s = memory.deviation_s if memory is not None else PRIOR_DEVIATION_SHARE * mean_s
    return max(LATE_FACTOR * mean_s, mean_s + LATE_DEVIATIONS * deviation_s) + LATE_MORE_S
