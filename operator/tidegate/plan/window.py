"""
The stabilisation window: never shrink below what the last minutes needed.

What is remembered is not replicas but load, as the fluid cost of the demand: the $/h it would cost if replicas
were divisible, on the tier that carries it cheapest. It falls when demand falls and rises when a replica turns
out to carry less, so one number covers both. Anything smaller has to carry the demand to come and the highest load of
the window. The load is what probably came, without the head-room of a forecast: with it, the same doubt would be paid
for twice.

A window with a gap in it, or of another length than before, starts afresh. Prices that change move no load: what is
remembered is counted in the new ones.
"""

from collections.abc import Sequence

from tidegate.domain.forecast import DemandForecast
from tidegate.plan.fleet import FleetModel
from tidegate.plan.memory import PlanMemory

# Two plans further apart than this have a gap between them: ticks are up to a minute apart, and one may be late.
GAP_S = 90.0
SLOTS = 10  # of a window; a peak is forgotten at most a tenth of the window late
# Of the nearest horizon: the highest of a window of medians is above the noise of a minute already.
LEVEL = 0.5


def load(model: FleetModel, forecast: DemandForecast) -> float:
    """Fluid $/h of the load of now; where nothing is known to carry it, the load itself."""
    return forecast.horizons[0].quantile(LEVEL) * unit_usd(model)


def unit_usd(model: FleetModel) -> float:
    """Fluid $/h of one request/s, > 0; 1 where nothing is known to carry it."""
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
    What a load that was counted in other prices, or for other tiers, has to be multiplied by.

    Args:
        before: The memory that the load is from; a tier that has no price in it is new in both.
    """
    if not before.prices:
        return 1.0
    if before.names != model.names:
        return _moved(model, before)
    then = tuple([now if was < 0 else was for was, now in zip(before.prices, model.each_usd, strict=True)])
    return 1.0 if then == model.each_usd else unit_usd(model) / _unit_usd(model, then)


def _moved(model: FleetModel, before: PlanMemory) -> float:
    """The same for other tiers: a request/s costs what it costs on the cheapest of each."""
    pairs = zip(before.prices, before.capacities, strict=True)
    then = min([price / capacity for price, capacity in pairs if price > 0 and capacity > 0], default=0.0)
    return unit_usd(model) / then if then else 1.0


def prices(model: FleetModel, before: Sequence[float]) -> tuple[float, ...]:
    """The prices that loads are counted in now; of a tier that cannot be used those it had, -1 where it had none."""
    old = before or [-1.0] * len(model.usable)
    return tuple([now if ok else was for now, was, ok in zip(model.each_usd, old, model.usable, strict=True)])


def remember(
    peaks: tuple[tuple[int, float], ...], value: float, *, window_s: float, time_s: float
) -> tuple[tuple[int, float], ...]:
    """The peaks with one more reading; slots that have left the window are dropped."""
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
    """The highest load of the window; 0 where nothing is remembered."""
    return max([value for _, value in peaks], default=0.0)
