"""
Cost of a forecast: CPU microseconds per deployment and tick, and bytes of memory per deployment.

    python benchmarks/forecast_speed.py [--ticks 6000] [--tiers 3]

Each tier has its own start-up time, so there are four horizons; the load is bursty, a tick is 15 s. The first sixth of
the ticks is warm-up. Garbage collection is off.
"""

import argparse
import gc
import json
import random
from time import process_time

from tidegate import forecast
from tidegate.domain.observation import DeploymentObservation, TierReading, TierState

HORIZONS_S = (15.0, 75.0, 135.0, 315.0)


def observation(rate_rps: float, tiers: int) -> DeploymentObservation:
    """One deployment whose tiers share the load."""
    share = rate_rps / tiers
    reading = TierReading(
        window_s=60.0,
        age_s=5.0,
        arrival_rps=share,
        completion_rps=share,
        prompt_tokens_mean=1_000.0,
        output_tokens_mean=250.0,
        running=8.0 * share,
        waiting=0.0,
    )
    return DeploymentObservation(tiers={f"tier{i}": TierState(ready=2, reading=reading) for i in range(tiers)})


def main() -> None:
    """Time `observe` and `predict` in steady state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=6_000)
    parser.add_argument("--tiers", type=int, default=3)
    asked = parser.parse_args()
    draw = random.Random(1)
    load = [observation(draw.lognormvariate(1.5, 0.4), asked.tiers) for _ in range(asked.ticks)]
    warm_up = asked.ticks // 6
    memory, observing, predicting = None, 0.0, 0.0
    gc.disable()
    for tick, seen in enumerate(load):
        now = 1.7e9 + 15.0 * tick
        start = process_time()
        memory = forecast.observe(memory, observation=seen, time_s=now)
        middle = process_time()
        forecast.predict(memory, horizons_s=HORIZONS_S, time_s=now)
        if tick >= warm_up:
            observing, predicting = observing + middle - start, predicting + process_time() - middle
    timed = asked.ticks - warm_up
    print(f"observe {observing / timed * 1e6:6.1f} us per deployment and tick ({asked.tiers} tiers)")
    print(f"predict {predicting / timed * 1e6:6.1f} us ({len(HORIZONS_S)} horizons of 8 quantiles)")
    assert memory is not None
    print(f"memory  {len(json.dumps(memory.to_json(), separators=(',', ':'))):6d} bytes of JSON")


if __name__ == "__main__":
    main()
