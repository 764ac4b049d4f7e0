"""
The table at the end: what clients got, what it cost, and what static fleets would have cost.

In:    the scene when the replay is over.
Out:   a table and remarks.

The static fleets were not run: each is assumed to serve every request within the targets, which favors them. `its peak
fleet, fixed` is the most expensive fleet of this run, kept throughout; `only TIER, for the peak` is the first tier of
the manifest, sized for the highest load with the capacity that the operator learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from rich.table import Table

from tidegate.report.currency import sign
from tidegate.sandbox.demo.scene import Scene
from tidegate.sandbox.traffic.arrivals import peak_rps
from tidegate.units import MILLION, SECONDS_PER_HOUR

# Window of the highest load: about the start-up time of a replica.
PEAK_WINDOW_S = 10.0
# If a larger share of the servers' steps ended late, the machine was too slow and a remark says so.
LATE_SHARE = 0.05
# If traffic is faster than start-ups by more than this factor (a day in less than two minutes), no operator can follow.
HURRY = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One fleet.

    Args:
        name: Name in the table.
        attainment: Share of requests that met both targets; None: not run.
        usd: Dollars over the replay.
        gpu_hours: Accelerator hours over the replay.
        good_tokens: Output tokens of requests that met both targets.
    """

    name: str
    attainment: float | None
    usd: float
    gpu_hours: float
    good_tokens: int

    @property
    def usd_per_million_good_tokens(self) -> float | None:
        """None if there were no good tokens."""
        return self.usd / self.good_tokens * MILLION if self.good_tokens else None


def rows(scene: Scene) -> list[Row]:
    """Tidegate's row, and those of the static fleets."""
    whole, scenario, ledger = scene.whole(), scene.scenario, scene.ledger
    hours = scenario.duration_s / SECONDS_PER_HOUR
    found = [
        Row(
            name="Tidegate",
            attainment=whole.attainment,
            usd=ledger.usd,
            gpu_hours=ledger.gpu_hours,
            good_tokens=whole.good_tokens,
        )
    ]
    asked = sum(arrival.output_tokens for arrival in scenario.arrivals)
    fleets: dict[str, Mapping[str, int]] = {"its peak fleet, fixed": ledger.peak, **_alone(scene)}
    for name, replicas in fleets.items():
        found.append(
            Row(
                name=f"{name}\n{mix(replicas)}",
                attainment=None,
                usd=hours * sum(count * scenario.price_usd_per_hour(tier) for tier, count in replicas.items()),
                gpu_hours=hours * sum(count * scenario.gpus(tier) for tier, count in replicas.items()),
                good_tokens=asked,
            )
        )
    return found


def mix(replicas: Mapping[str, int]) -> str:
    """A fleet as text, e.g. `7 fp8 + 4 int4`."""
    return " + ".join(f"{count} {tier}" for tier, count in sorted(replicas.items()) if count) or "nothing"


def _alone(scene: Scene) -> dict[str, Mapping[str, int]]:
    """The first tier alone, sized for the highest load; empty if its capacity is unknown."""
    first = scene.scenario.deployment.tiers[0].name
    for tier in scene.status.get("tiers") or []:
        capacity_rps = float(tier.get("capacityPerReplica") or 0.0)
        if tier["name"] == first and capacity_rps > 0:
            needed = ceil(peak_rps(scene.scenario.arrivals, PEAK_WINDOW_S) / capacity_rps)
            return {f"only {first}, for the peak": {first: needed}}
    return {}


def table(scene: Scene) -> Table:
    """The rows as a table, with accelerator hours and dollars scaled up to the uncompressed time."""
    scale = scene.scenario.speed
    grid = Table(title=f"{_span(scene)} in {scene.scenario.duration_s:.0f} s", title_justify="left")
    unit = sign(scene.scenario.currency)
    for name in ("fleet", "attainment", f"{unit}/M good tok", "GPU-h", unit):
        grid.add_column(name, justify="left" if name == "fleet" else "right", no_wrap=True)
    found = rows(scene)
    for row in found:
        per_million = row.usd_per_million_good_tokens
        grid.add_row(
            row.name,
            f"{row.attainment:.1%}" if row.attainment is not None else "(100%)",
            f"{per_million:.2f}" if per_million is not None else "-",
            f"{row.gpu_hours * scale:.1f}",
            f"{row.usd * scale:.2f}",
        )
    return grid


def remarks(scene: Scene) -> list[str]:
    """Sentences below the table."""
    whole, slo = scene.whole(), scene.scenario.deployment.slo
    said = [
        f"{whole.requests} requests, {whole.failed} failed; promised: {slo.attainment:.0%} within "
        f"TTFT {slo.ttft_s * 1000:.0f} ms and ITL {slo.itl_s * 1000:.0f} ms",
    ]
    if whole.ttft_s_p95 is not None and whole.itl_s_p95 is not None:
        said.append(f"p95 measured by the clients: TTFT {whole.ttft_s_p95 * 1000:.0f} ms, "
                    f"ITL {whole.itl_s_p95 * 1000:.0f} ms")  # fmt: skip
    if (compared := scene.compared()) is not None:
        said.append(
            f"attainment over the run: {compared[0]:.1%} measured by the operator, "
            f"{compared[1]:.1%} by the clients in the same windows"
        )
    haste = scene.scenario.speed / scene.scenario.pace
    if haste > HURRY:
        said.append(
            f"traffic passed {haste:.0f} times faster than start-ups, more than any operator can follow: "
            "use a longer --duration"
        )
    return [*said, *_lag(scene)]


def _lag(scene: Scene) -> list[str]:
    steps = scene.lag.get("steps", 0.0)
    if not steps:
        return ["it is not known whether the servers kept up"]
    late, mean_s = scene.lag["steps_late"] / steps, scene.lag["lag_total_s"] / steps
    figures = (
        f"{late:.1%} of {steps:.0f} steps ended late (mean {1000 * mean_s:.1f} ms, "
        f"worst {1000 * scene.lag['lag_worst_s']:.0f} ms); requests were sent up to "
        f"{1000 * scene.whole().late_s_worst:.0f} ms late"
    )
    if late > LATE_SHARE:
        return [f"THIS MACHINE LAGGED, so part of the latencies above is its own: {figures}"]
    return [f"this machine kept up: {figures}"]


def _span(scene: Scene) -> str:
    hours = scene.scenario.duration_s * scene.scenario.speed / SECONDS_PER_HOUR
    return "a day" if abs(hours - 24) < 0.1 else f"{hours:.1f} hours"
