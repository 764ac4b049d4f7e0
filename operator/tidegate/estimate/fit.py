"""
From samples to coefficients: one factor first, then each coefficient, never below 0 and never far without reason.

In:    a prior law and samples (running requests, context, interference, ITL seen).
Out:   factors on the prior's a, b, c and p1.

The vector minimises relative errors plus a ridge that pulls each factor towards the common one:

    sum_i ((x_i * u - y_i) / y_i)^2  +  sum_j stiffness_j * (u_j - s)^2,   u >= 0

with x_i the four terms of the prior at sample i and s the scalar fit.
"""

from collections.abc import Sequence
from math import exp, log

from tidegate.estimate.memory import Sample
from tidegate.estimate.roofline import Coefficients

# A fourfold range of N separates what grows with N from what does not.
RANGE_FOR_VECTOR = 4.0
SAMPLES_FOR_VECTOR = 4
# Pull of each factor (a, b, c, p1) towards the common one, in units of one squared relative error.
STIFFNESS = (0.01, 0.01, 0.01, 0.01)
ROUNDS = 60
FACTOR_MIN, FACTOR_MAX = 0.05, 20.0


def terms(prior: Coefficients, sample: Sample) -> tuple[float, float, float, float]:
    """What each coefficient of the prior adds to the ITL of a sample, s."""
    n = sample.running
    return prior.a_s, prior.b_s * n, prior.c_s * n * sample.context, prior.p1_s * n * sample.interference


def predicted_s(law: Coefficients, sample: Sample) -> float:
    """ITL of the law at a sample's operating point, s."""
    return sum(terms(law, sample))


def scalar(prior: Coefficients, samples: Sequence[Sample]) -> float:
    """The one factor on the prior that fits best: median of the logarithms, so that one bad sample moves nothing."""
    ratios = sorted(log(s.itl_s / predicted_s(prior, s)) for s in samples)
    middle = len(ratios) // 2
    median = ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2
    return min(FACTOR_MAX, max(FACTOR_MIN, exp(median)))


def identifiable(samples: Sequence[Sample]) -> bool:
    """True where the samples span enough of N to tell the coefficients apart."""
    if len(samples) < SAMPLES_FOR_VECTOR:
        return False
    running = [s.running for s in samples]
    return max(running) >= RANGE_FOR_VECTOR * min(running)


def vector(prior: Coefficients, samples: Sequence[Sample]) -> tuple[float, float, float, float]:
    """Factors on a, b, c and p1; all equal to the scalar where the samples tell nothing more."""
    common = scalar(prior, samples)
    rows = [[t / s.itl_s for t in terms(prior, s)] for s in samples]
    normal = [[sum(r[i] * r[j] for r in rows) for j in range(4)] for i in range(4)]
    right = [sum(r[i] for r in rows) for i in range(4)]
    for i in range(4):
        normal[i][i] += STIFFNESS[i]
        right[i] += STIFFNESS[i] * common
    return _descend(normal, right, common)


def _descend(normal: list[list[float]], right: list[float], start: float) -> tuple[float, float, float, float]:
    """Solve the non-negative normal equations by coordinate descent: convex, so the order does not matter."""
    u = [start] * 4
    for _ in range(ROUNDS):
        for i in range(4):
            rest = sum(normal[i][j] * u[j] for j in range(4) if j != i)
            u[i] = max(0.0, (right[i] - rest) / normal[i][i])
    return u[0], u[1], u[2], u[3]
