"""Power draw of a replica."""

import pytest

from tests.estimate.build import H100, LLAMA_8B, tier
from tidegate.domain.spec import Accelerator
from tidegate.estimate.power import power_w
from tidegate.estimate.serving import serving_of


def draw(accelerator: Accelerator | None, running: float, *, gpus: int = 1, args: tuple[str, ...] = ()) -> float | None:
    return power_w(serving_of(LLAMA_8B, tier(gpus=gpus, args=args), accelerator), running)


@pytest.mark.parametrize(("running", "watts"), [(1, 305), (18.4, 450), (1000, 599)])
def test_an_h100_draws_what_was_measured(running: float, watts: float) -> None:
    assert draw(H100, running) == pytest.approx(watts, rel=0.03)


def test_more_requests_draw_more_and_every_accelerator_of_the_replica_draws() -> None:
    low, high = draw(H100, 2), draw(H100, 64)
    assert low is not None
    assert high is not None
    assert low < high
    assert draw(H100, 64, gpus=4) == pytest.approx(4 * high)
    assert draw(H100, 4 * 64, gpus=4, args=("-dp", "4")) == pytest.approx(4 * high)


def test_nobody_knows_what_an_unknown_accelerator_draws_unless_its_class_says() -> None:
    assert draw(None, 8) is None
    assert draw(Accelerator(name="odd", price_usd_per_hour=1.0), 8) is None
    stated = draw(Accelerator(name="odd", price_usd_per_hour=1.0, board_power_w=500.0), 1000)
    assert stated == pytest.approx(430, rel=0.01)
