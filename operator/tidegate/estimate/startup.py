"""
How long a replica takes from being asked for to being ready.

In:    start-ups as the cluster saw them; where there were none, size of the model.
Out:   the expected time, and the time after which a replica counts as stuck.
"""

from math import sqrt

from tidegate.estimate.memory import StartupMemory, digits
from tidegate.estimate.serving import Serving

# Pod, image already on the node, server and CUDA graphs: what does not grow with the model. Model load of an 8 B model
# took 35 to 126 s, median 68 s, of 70 B on eight accelerators 82 to 226 s (AccelMark results, `model_load_seconds`).
BASE_S = 60.0
LOAD_BYTES_PER_S = 1.0e9
PRIOR_MAX_S = 600.0
# A replica is late when it takes this much longer than thought: half as long again, four mean deviations.
LATE_FACTOR = 1.5
LATE_DEVIATIONS = 4.0
LATE_MORE_S = 45.0
# Model loads of the same source lie within a factor of two of their median: their mean deviation is less than half.
PRIOR_DEVIATION_SHARE = 0.5
SEEN_MAX = 20
LEARNING_SHARE = 0.3
# A pod that waited ten hours for a free accelerator says nothing of start-ups. Twenty minutes are believed of any
# model: weights over a slow link take ten, and one start in a hundred half as long again. Beyond that it is so many
# times what is thought: should a start really take 6000 s instead of 600, then four of them bring 4120 s.
BELIEVED_S = 1200.0
LEAP_MAX = 4.0


def prior_s(serving: Serving) -> float:
    """Start-up nobody has seen yet, s."""
    return min(PRIOR_MAX_S, BASE_S + serving.weight_bytes / LOAD_BYTES_PER_S / sqrt(serving.tensor_parallel))


def remember(before: StartupMemory | None, serving: Serving, startup_s: float) -> StartupMemory:
    """The memory with one more start-up, s > 0; one that was mostly a wait counts as the longest that is believed."""
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
    """Expected start-up, s."""
    return memory.mean_s if memory is not None else prior_s(serving)


def late_s(memory: StartupMemory | None, serving: Serving) -> float:
    """When a replica that is still starting counts as stuck, s after it was asked for."""
    mean_s = expected_s(memory, serving)
    deviation_s = memory.deviation_s if memory is not None else PRIOR_DEVIATION_SHARE * mean_s
    return max(LATE_FACTOR * mean_s, mean_s + LATE_DEVIATIONS * deviation_s) + LATE_MORE_S
