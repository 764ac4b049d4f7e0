"""Whether a tier has changed its speed, or only its operating point."""

from dataclasses import replace

import pytest

from tidegate.estimate.fit import predicted_s
from tidegate.estimate.memory import Sample
from tidegate.estimate.roofline import Coefficients
from tidegate.estimate.shift import unshifted

LAW = Coefficients(a_s=0.006, b_s=1e-5, c_s=4e-8, p0_s=0.004, p1_s=2e-5)
POINT = Sample(running=90.0, context=1200.0, interference=4.0, itl_s=0.01)


def at(running: float, *errors: float, context: float = POINT.context) -> tuple[Sample, ...]:
    """Samples at one point that take this much longer than the law says, as a share."""
    point = replace(POINT, running=running, context=context)
    return tuple(replace(point, itl_s=(1 + error) * predicted_s(LAW, point)) for error in errors)


@pytest.mark.parametrize(
    ("earlier", "newest", "kept"),
    [
        pytest.param(at(90, 0.0, 0.02, -0.02), at(90, 0.14, 0.16, 0.15), 3, id="slower"),
        pytest.param(at(90, 0.14, 0.16, 0.15), at(90, 0.0, 0.02, -0.02), 3, id="faster"),
        pytest.param(at(110, 0.14, 0.16, 0.15), at(60, 0.0, 0.02, -0.02), 3, id="half as many run at the same load"),
        pytest.param(at(160, 0.15, 0.15) + at(90, 0.0, 0.02, -0.02), at(90, 0.14, 0.16, 0.15), 3, id="and elsewhere"),
        pytest.param(at(90, 0.0, 0.02, -0.02), at(90, 0.14, 0.16, 0.01), 6, id="one window as before"),
        pytest.param(at(90, 0.06, -0.06, 0.02), at(90, 0.08, 0.11, 0.09), 6, id="noise"),
        pytest.param(at(90, 0.1, 0.11, 0.12), at(90, 0.12, 0.1, 0.11), 6, id="a law that is always off here"),
        pytest.param(at(90, 0.12, 0.12, 0.12), at(30, 0.0, 0.0, 0.0), 6, id="a law of the wrong shape"),
        pytest.param(at(90, 0.12, 0.12, 0.12), at(90, 0.0, 0.0, 0.0, context=4000), 6, id="requests of another shape"),
        pytest.param(at(90, 0.0, 0.02), at(90, 0.14, 0.16, 0.15), 5, id="too few to compare with"),
        pytest.param((), at(90, 0.14), 1, id="the first"),
    ],
)
def test_samples_from_before_a_change_of_speed_no_longer_apply(
    earlier: tuple[Sample, ...], newest: tuple[Sample, ...], kept: int
) -> None:
    together = (*earlier, *newest)
    assert unshifted(LAW, together) == together[-kept:]
