"""
The stabilization window: never shrink below what the last minutes needed.

It stores load, not replicas, as the fluid cost of the demand: the $/h it would cost on the cheapest tier if replicas
were divisible. This rises when demand rises and when a replica turns out to carry less, so one number covers both. A
smaller fleet must carry the forecast demand and the highest load of the window. The load is the probable one (the
median), without the headroom of the forecast, which would otherwise count twice.

A window with a gap in it, or of another length, starts afresh. Price changes rescale what is stored.
"""

from collections.abc import Sequence

from tidegate.domain.forecast import DemandForecast
from tidegate.plan.fleet import FleetModel
from tidegate.plan.memory import PlanMemory

# More time than this between two plans is a gap: ticks are up to a minute apart, and one may be late.
GAP_S = 90.0
SLOTS = 10  # per window: a peak is forgotten at most a tenth of the window late
# Quantile of the nearest horizon. The highest median of a window already lies above the noise of a single minute.
LEVEL = 0.5


def load(model: FleetModel, forecast: DemandForecast) -> float:
    """The current load, fluid $/h (see `unit_usd`)."""
    return forecast.horizons[0].quantile(LEVEL) * unit_usd(model)


def unit_usd(model: FleetModel) -> float:
    """Fluid $/h of one request/s, > 0; 1 if no usable tier has a capacity, or the cheapest has no price."""
    return _unit_usd(model, model.each_usd)


def _unit_usd(model: FleetModel, prices: Sequence[float]) -> float:
    costs = [
        price / capacity
        for price, capacity, usable in zip(prices, model.capacities, model.usable, strict=True)
        if usable and capacity > 0
    ]
    return min(costs) if costs and min(costs) > 0 else 1.0


def repriced(model: FleetModel, before: PlanMemory) -> float:
    """
    Factor that converts a stored load to the current prices and tiers.

    Args:
        before: The memory that the load comes from. A tier without a price in it is taken at its current price.
    """
    if not before.prices:
        return 1.0
    if before.names != model.names:
        return _moved(model, before)
    then = tuple([now if was < 0 else was for was, now in zip(before.prices, model.each_usd, strict=True)])
    return 1.0 if then == model.each_usd else unit_usd(model) / _unit_usd(model, then)


def _moved(model: FleetModel, before: PlanMemory) -> float:
    """The factor if the tiers have changed: the ratio of what a request/s costs on the cheapest tier, now and then."""
    pairs = zip(before.prices, before.capacities, strict=True)
    then = min([price / capacity for price, capacity in pairs if price > 0 and capacity > 0], default=0.0)
    return unit_usd(model) / then if then else 1.0


def prices(model: FleetModel, before: Sequence[float]) -> tuple[float, ...]:
    """Prices in which loads are now expressed; for a tier that is not usable its last one, or -1 if it had none."""
    old = before or [-1.0] * len(model.usable)
    return tuple([now if ok else was for now, was, ok in zip(model.each_usd, old, model.usable, strict=True)])


def remember(
    peaks: tuple[tuple[int, float], ...], value: float, *, window_s: float, time_s: float
) -> tuple[tuple[int, float], ...]:
    """The peaks with one more load; slots that have left the window are dropped."""
    if window_s <= 0:
        return ((0, value),)
    value = round(value, 4)
    length = window_s / SLOTS
    slot = int(time_s // length)
    oldest = slot - SLOTS
    if peaks and peaks[-1][0] == slot and peaks[0][0] >= oldest:
        return peaks if peaks[-1][1] >= value else (*peaks[:-1], (slot, value))
    kept = [peak for peak in peaks if oldest <= peak[0] < slot]
    same = [v for s, v in peaks if s == slot]
    return (*kept, (slot, max([value, *same])))


def highest(peaks: tuple[tuple[int, float], ...]) -> float:
    """The highest load of the window; 0 if nothing is stored."""
    return max([value for _, value in peaks], default=0.0)
