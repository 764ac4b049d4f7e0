"""
Whether a tier has become faster or slower, seen at one operating point.

In:    the law in force, and the samples of a tier, oldest first.
Out:   the samples that still apply.

A law of the wrong shape errs as well, but by the same amount whenever the same point is visited. So the newest samples
are compared with earlier ones of nearly the same point, each relative to the law. Without this, larger batches that
were observed while the tier was slow would be believed for days: a larger fleet never runs them again.
"""

from collections.abc import Sequence
from math import log

from tidegate.estimate.fit import predicted_s
from tidegate.estimate.memory import Sample
from tidegate.estimate.roofline import Coefficients
from tidegate.estimate.samples import alike

# So many samples are compared with as many earlier ones. If all of them are faster than all of those by more than the
# limit, or all slower, the speed has changed. In simulated weeks a change of 15 % is found within ten minutes. Noise of
# 2 % passes for one about once a month, of 3 % once a week; the law is then learned again from three samples.
COMPARED = 3
APART_LOG = log(1.06)
# Between numbers of requests this close, the error of a law of the wrong shape differs by less than that.
NEAR = 1.5


def unshifted(law: Coefficients, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples since the speed has changed; all of them if it has not."""
    earlier, newest = samples[:-COMPARED], samples[-COMPARED:]
    same = [s for s in earlier if all(alike(s, new, running=NEAR) for new in newest)][-COMPARED:]
    if len(same) < COMPARED:
        return tuple(samples)
    before, now = [_error(law, s) for s in same], [_error(law, s) for s in newest]
    apart = max(min(now) - max(before), min(before) - max(now))
    return tuple(newest if apart > APART_LOG else samples)


def _error(law: Coefficients, sample: Sample) -> float:
    return log(sample.itl_s / predicted_s(law, sample))
