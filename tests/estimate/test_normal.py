"""The table of the normal distribution, compared with the function."""

from math import erfc, sqrt

import numpy as np
import pytest

from tidegate.estimate.normal import normal_quantile, normal_share


def test_shares_are_right_to_a_millionth_and_bounded_far_out() -> None:
    quantiles = np.linspace(-7.5, 7.5, 1237)
    exact = np.array([0.5 * erfc(-z / sqrt(2.0)) for z in quantiles])
    assert np.abs(normal_share(quantiles) - exact).max() < 1e-6
    assert normal_share(np.array([-np.inf, -50.0, 50.0, np.inf])) == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-9)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.95, 0.975, 0.9995])
def test_quantiles_are_the_inverse(share: float) -> None:
    assert float(normal_share(np.array(normal_quantile(share)))) == pytest.approx(share, abs=1e-6)
