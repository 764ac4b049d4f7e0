"""The forecast, compared with the last value on real traffic."""

import numpy as np
import pytest

from benchmarks.forecast_pinball import losses
from tests.data import data_path


@pytest.mark.slow
@pytest.mark.parametrize("trace", ["azure2024_conv_week", "servegen_r1_a"])
def test_every_part_beats_the_last_value_with_its_own_errors(trace: str) -> None:
    measured = losses(data_path(f"traces/{trace}.csv.gz"), tick_s=15.0, window_s=60.0)
    for part in ("level", "trend", "season", "tidegate"):
        ratio = measured[part].mean(axis=1) / measured["last"].mean(axis=1)
        assert np.all(ratio < 0.98), f"{part}: {ratio} of the last value's loss by horizon"
    assert measured["tidegate"].mean() < 0.6 * measured["now"].mean()
