"""The demand that a plan is made for: the highest until replicas requested now could serve."""

from dataclasses import replace

import pytest

from tests.plan.fleets import LEVELS, forecast
from tidegate.domain.forecast import HorizonForecast
from tidegate.plan.scenario import scenarios


@pytest.mark.parametrize(
    ("rates", "lead_s", "rate", "horizon_s"),
    [
        pytest.param((9.0, 7.0, 5.0), 135.0, 9.0, 135.0, id="falling demand is served on its way down"),
        pytest.param((5.0, 7.0, 9.0), 135.0, 7.0, 135.0, id="rising demand is met where it will be"),
        pytest.param((5.0, 9.0, 7.0), 315.0, 9.0, 315.0, id="a peak on the way is served too"),
        pytest.param((5.0, 7.0, 9.0), 20.0, 7.0, 135.0, id="between two horizons the later one counts"),
        pytest.param((5.0, 7.0, 9.0), 900.0, 9.0, 315.0, id="beyond all of them the last one stands for what comes"),
    ],
)
def test_a_plan_is_made_for_the_highest_demand_until_it_can_serve(
    rates: tuple[float, ...], lead_s: float, rate: float, horizon_s: float
) -> None:
    ahead = zip((15.0, 135.0, 315.0), rates, strict=True)
    horizons = tuple(HorizonForecast(horizon_s=s, levels=LEVELS, rates_rps=(r,) * len(LEVELS)) for s, r in ahead)
    found = scenarios(replace(forecast(rates[0]), horizons=horizons), lead_s)
    assert found.rates_rps == (rate,) * len(LEVELS)
    assert (found.shown_rps, found.mean_rps, found.horizon_s) == (rate, pytest.approx(rate), horizon_s)
