"""
From samples to coefficients: first one factor, then each coefficient, non-negative and regularized towards the prior.

In:    the prior's coefficients, samples of decoding, and samples of prefill.
Out:   factors on the prior's five coefficients.

1. One factor on everything, from the ITL alone.
2. Prefill: factors on p1 and p0 from the measured prefill times. A constant that the prior does not know (HTTP,
   tokenizer) goes into p0, what grows with the prompt into p1.
3. One factor on a, b and c, given p1.
4. If the samples span a fourfold range of N: each of a, b, c and p1, by least squares on relative errors with a ridge
   towards the results of 1 to 3, none below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from operator import mul

from tidegate.estimate.memory import Prompt, Sample
from tidegate.estimate.roofline import Coefficients

# A fourfold range of N separates what grows with N from what does not; a single operating point cannot.
RANGE_FOR_VECTOR = 4.0
SAMPLES_FOR_VECTOR = 4
# Ridge of a, b, c and p1 towards the common factor, in squared relative errors: a window errs by about 3 %, the shape
# of a prior by 20 to 30 %. The optimum is flat: a third or three times these values changes the error by a twentieth.
STIFFNESS = (0.03, 0.1, 0.1, 0.03)
# The same for prefill, measured to about 5 %: p1 is known within 30 %. HTTP and tokenizer, which no prior includes, are
# expected to take 10 ms, give or take 10: the time between engine and client in real runs of vLLM.
STIFFNESS_P1 = (0.05 / 0.3) ** 2
OUTSIDE_S, OUTSIDE_SPREAD_S, STIFFNESS_P0 = 0.010, 0.010, 0.05**2
FACTOR_MIN, FACTOR_MAX = 0.05, 20.0
# At least this share of an ITL is decoding, whatever prefill is thought to cost.
DECODE_SHARE_MIN = 0.2
ROUNDS = 100
SETTLED = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Factors on a prior, and whether they were fitted per coefficient (`vector`) or as one."""

    factors: Coefficients
    vector: bool


def fit(
    prior: Coefficients, samples: Sequence[Sample], prompts: Sequence[Prompt] = (), *, evidence: float = 1.0
) -> Fit:
    """
    Factors on the prior that explain the samples.

    Args:
        prior: Coefficients, each above 0.
        samples: Samples of decoding, at least one.
        prompts: Samples of prefill; empty: p1 and p0 take the common factor.
        evidence: Number of windows that each sample stands for, >= 1; the ridge is divided by it.
    """
    common = common_factor(prior, samples)
    p1, p0 = _prompt_factors(prior, prompts, common)
    a = b = c = _decode(prior, samples, p1)
    vector = identifiable(samples)
    if vector:
        a, b, c, p1 = _vector(prior, samples, (a, b, c, p1), evidence)
    factors = Coefficients(a_s=a, b_s=b, c_s=c, p0_s=p0, p1_s=p1)
    return Fit(factors=factors.mapped(_bounded), vector=vector)


def predicted_s(law: Coefficients, sample: Sample) -> float:
    """ITL of the law at a sample's operating point, s."""
    n = sample.running
    return law.a_s + n * (law.b_s + law.c_s * sample.context + law.p1_s * sample.interference)


def identifiable(samples: Sequence[Sample]) -> bool:
    """True if the samples span enough of N to identify each coefficient."""
    if len(samples) < SAMPLES_FOR_VECTOR:
        return False
    running = [s.running for s in samples]
    return max(running) >= RANGE_FOR_VECTOR * min(running)


def common_factor(prior: Coefficients, samples: Sequence[Sample]) -> float:
    """One factor on everything: the median, so that one bad sample has no effect."""
    return exp(_median([log(s.itl_s / predicted_s(prior, s)) for s in samples]))


def _decode(prior: Coefficients, samples: Sequence[Sample], p1: float) -> float:
    """One factor on a, b and c, given the factor on p1."""
    ratios = []
    for s in samples:
        prompts_s = prior.p1_s * s.running * s.interference
        rest_s = max(s.itl_s - p1 * prompts_s, DECODE_SHARE_MIN * s.itl_s)
        ratios.append(log(rest_s / (predicted_s(prior, s) - prompts_s)))
    return exp(_median(ratios))


def _prompt_factors(prior: Coefficients, prompts: Sequence[Prompt], common: float) -> tuple[float, float]:
    """Factors on p1 and p0."""
    if not prompts:
        return common, common
    rows = [(prior.p1_s * p.tokens / p.prefill_s, prior.p0_s / p.prefill_s) for p in prompts]
    loose = STIFFNESS_P0 * (prior.p0_s / OUTSIDE_SPREAD_S) ** 2
    normal, right = _normal(rows)
    p1, p0 = _ridge(normal, right, (common, common + OUTSIDE_S / prior.p0_s), (STIFFNESS_P1, loose))
    return p1, p0


def _vector(
    prior: Coefficients, samples: Sequence[Sample], centre: tuple[float, float, float, float], evidence: float
) -> tuple[float, ...]:
    """Factors on a, b, c and p1."""
    rows = []
    for s in samples:
        n = s.running / s.itl_s
        rows.append((prior.a_s / s.itl_s, prior.b_s * n, prior.c_s * n * s.context, prior.p1_s * n * s.interference))
    normal, right = _normal(rows)
    return _ridge(normal, right, centre, tuple(pull / evidence for pull in STIFFNESS))


def _normal(rows: Sequence[tuple[float, ...]]) -> tuple[list[list[float]], list[float]]:
    """Normal equations of rows whose product with the factors should be 1."""
    columns = list(zip(*rows, strict=True))
    return [[sum(map(mul, one, other)) for other in columns] for one in columns], [sum(c) for c in columns]


def _ridge(
    normal: list[list[float]], right: list[float], centre: tuple[float, ...], stiffness: tuple[float, ...]
) -> tuple[float, ...]:
    """
    Non-negative solution of the normal equations with a ridge towards the centre.

    By coordinate descent: the problem is convex, so it converges to the same solution as any other method. Two unknowns
    are solved in closed form, because descent would take many rounds.
    """
    size = len(centre)
    for i in range(size):
        normal[i][i] += stiffness[i]
        right[i] += stiffness[i] * centre[i]
    if size == 2:
        return _pair(normal, right)
    u = list(centre)
    equations = list(zip(range(size), normal, right, [normal[i][i] for i in range(size)], strict=True))
    for _ in range(ROUNDS):
        moved = 0.0
        for i, row, wanted, own in equations:
            old = u[i]
            new = old + (wanted - sum(map(mul, row, u))) / own
            u[i] = new = new if new > 0.0 else 0.0
            moved = max(moved, abs(new - old))
        if moved < SETTLED:
            break
    return tuple(u)


def _pair(normal: list[list[float]], right: list[float]) -> tuple[float, float]:
    """
    Two unknowns, neither below 0.

    If the unconstrained solution has a negative one, that is set to 0 and the other is solved alone, if this satisfies
    the optimality conditions; else the other way round.
    """
    (xx, xy), (_, yy) = normal
    x, y = right
    determinant = xx * yy - xy * xy
    first, second = (x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant
    if first >= 0.0 and second >= 0.0:
        return first, second
    if y > 0.0 and xy * y >= x * yy:
        return 0.0, y / yy
    return max(0.0, x / xx), 0.0


def _median(values: list[float]) -> float:
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _bounded(factor: float) -> float:
    return min(FACTOR_MAX, max(FACTOR_MIN, factor))
