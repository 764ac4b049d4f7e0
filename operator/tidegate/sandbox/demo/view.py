"""
Show the scene on a terminal, or as lines if there is none.

In:    the scene, the time.
Out:   a rich renderable, or one line of text.
"""

from collections import Counter

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tidegate.report.currency import amount, sign
from tidegate.sandbox.demo.scene import Scene
from tidegate.sandbox.demo.verdict import LATE_SHARE, mix
from tidegate.units import SECONDS_PER_DAY, SECONDS_PER_HOUR

BARS = " ▁▂▃▄▅▆▇█"
GRAPH_COLUMNS = 72


def picture(scene: Scene, now_s: float) -> RenderableType:
    """The whole view."""
    elapsed_s = scene.elapsed_s(now_s)
    return Group(
        _head(scene, elapsed_s),
        Panel(_load(scene, elapsed_s), title="load", title_align="left"),
        _tiers(scene),
        _service(scene, elapsed_s),
        Panel(_decisions(scene), title="decisions", title_align="left"),
    )


def line(scene: Scene, now_s: float) -> str:
    """The scene in one line."""
    elapsed_s = scene.elapsed_s(now_s)
    recent = scene.recent(elapsed_s)
    fleet = Counter({tier: states["ready"] for tier, states in scene.replicas().items()})
    return (
        f"{clock(scene, elapsed_s)}  {scene.offered_rps(elapsed_s):5.1f} req/s  {mix(fleet):<28} "
        f"attainment {_share(recent.attainment)}  TTFT {_ms(recent.ttft_s_p95)}  ITL {_ms(recent.itl_s_p95)}  "
        f"GPU {_share(scene.gpu_utilization)}  {_money(scene, scene.ledger.usd_per_hour)}/h  {_reason(scene)}"
    )


def clock(scene: Scene, elapsed_s: float) -> str:
    """Time of day of the traffic, as HH:MM."""
    seconds = elapsed_s * scene.scenario.speed % SECONDS_PER_DAY
    return f"{int(seconds // SECONDS_PER_HOUR):02d}:{int(seconds % SECONDS_PER_HOUR // 60):02d}"


def graph(values: list[float]) -> str:
    """A bar chart in one line, scaled to the highest value."""
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[round((len(BARS) - 1) * value / top)] for value in values)


def _head(scene: Scene, elapsed_s: float) -> Text:
    scenario = scene.scenario
    text = Text()
    text.append(f" {scenario.deployment.key} ", "bold reverse")
    text.append(f"  {scenario.deployment.model}   {clock(scene, elapsed_s)}   ", "bold")
    text.append(f"{elapsed_s:.0f} of {scenario.duration_s:.0f} s, traffic at {scenario.speed:.0f} x real time, ")
    text.append(f"start-ups at {scenario.pace:.0f} x")
    return text


def _load(scene: Scene, elapsed_s: float) -> Text:
    duration_s, columns = scene.scenario.duration_s, GRAPH_COLUMNS
    counts = [0.0] * columns
    for arrival in scene.scenario.arrivals:
        counts[min(columns - 1, int(arrival.time_s / duration_s * columns))] += 1
    done = min(columns, int(elapsed_s / duration_s * columns))
    bars = graph(counts)
    text = Text()
    text.append(bars[:done], "bold cyan").append(bars[done:], "dim")
    text.append(
        f"\n{scene.offered_rps(elapsed_s):.1f} requests/s, {scene.in_flight(elapsed_s)} in flight, "
        f"{scene.queued} waiting for a replica"
    )
    return text


def _tiers(scene: Scene) -> Table:
    table = Table(expand=False)
    price = f"{sign(scene.scenario.currency)}/h each"
    for name in ("tier", "accelerators", price, "desired", "ready", "starting", "pending", "terminating", "req/s each"):
        table.add_column(name, justify="left" if name in ("tier", "accelerators") else "right")
    told = {tier["name"]: tier for tier in scene.status.get("tiers") or []}
    states = scene.replicas()
    for tier in scene.scenario.deployment.tiers:
        count, said = states[tier.name], told.get(tier.name, {})
        table.add_row(
            tier.name,
            f"{tier.accelerators_per_replica} x {tier.accelerator}",
            f"{scene.scenario.price_usd_per_hour(tier.name):.2f}",
            _number(said.get("desired")),
            *(str(count[state]) if count[state] else "" for state in ("ready", "starting", "pending", "leaving")),
            _number(said.get("capacityPerReplica")),
        )
    return table


def _service(scene: Scene, elapsed_s: float) -> Table:
    recent, whole, slo = scene.recent(elapsed_s), scene.whole(), scene.scenario.deployment.slo
    table = Table(show_header=True, expand=False)
    for name in ("", "now", "so far", "promised"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("attainment", _share(recent.attainment), _share(whole.attainment), f"{slo.attainment:.1%}")
    table.add_row("TTFT p95", _ms(recent.ttft_s_p95), _ms(whole.ttft_s_p95), _ms(slo.ttft_s))
    table.add_row("ITL p95", _ms(recent.itl_s_p95), _ms(whole.itl_s_p95), _ms(slo.itl_s))
    table.add_row("GPU utilization", _share(scene.gpu_utilization), "", "")
    budget = scene.scenario.deployment.cost.budget_usd_per_hour
    now, spent = (_money(scene, n) for n in (scene.ledger.usd_per_hour, scene.ledger.usd * scene.scenario.speed))
    table.add_row("cost", f"{now}/h", spent, f"{_money(scene, budget)}/h" if budget else "")
    table.add_row("server lag", _lag(scene), "", "")
    return table


def _money(scene: Scene, number: float) -> str:
    return amount(f"{number:.2f}", scene.scenario.currency)


def _decisions(scene: Scene) -> Text:
    text = Text()
    for elapsed_s, reason, message in list(scene.decisions)[-4:]:
        text.append(f"{clock(scene, elapsed_s)} ", "dim").append(f"{reason}: ", "bold").append(f"{message}\n")
    return text if text.plain else Text("none yet")


def _reason(scene: Scene) -> str:
    return scene.decisions[-1][1] if scene.decisions else ""


def _lag(scene: Scene) -> Text:
    steps = scene.lag.get("steps", 0.0)
    if not steps:
        return Text("-")
    late = scene.lag["steps_late"] / steps
    return Text(f"{late:.1%} of steps late", "red" if late > LATE_SHARE else "green")


def _share(value: float | None) -> str:
    return f"{value:.1%}" if value is not None else "-"


def _ms(value: float | None) -> str:
    return f"{value * 1000:.0f} ms" if value is not None else "-"


def _number(value: object) -> str:
    return "" if value is None else str(value)
