"""`tidegate top`: one line per deployment, from the status alone."""

import json

import click
from rich.table import Table
from rich.text import Text

from tidegate.cli.console import console
from tidegate.cli.objects import Object, conditions_of, connection, key_of, output_option, read
from tidegate.report.currency import DOLLARS, amount, sign

_NUMBERS = ("UP", "GOOD REQ/S", "MET", "TTFT P95", "ITL P95", "GPU")


@click.command("top")
@click.option("-n", "--namespace", help="Show only this namespace.")
@click.option("--sort", type=click.Choice(["name", "cost", "attainment"]), default="name", show_default=True)
@connection
@output_option
def command(namespace: str | None, sort: str, kubeconfig: str | None, context: str | None, output: str) -> None:
    """Show goodput, replicas, attainment and cost of all deployments."""
    scope = f"namespaces/{namespace}/" if namespace else ""
    listed = read(f"{scope}inferencedeployments", kubeconfig=kubeconfig, context=context)["items"]
    resources = sorted(listed, key=lambda resource: _rank(resource, sort))
    if output == "json":
        rows = [{"namespace": key_of(r).namespace, "name": key_of(r).name} | (r.get("status") or {}) for r in resources]
        click.echo(json.dumps(rows, indent=2))
        return
    console().print(overview(resources))


def overview(resources: list[Object]) -> Table:
    """The table; with several deployments the last row is a total."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("DEPLOYMENT")
    table.add_column("TIERS")
    codes = {_cost(resource).get("currency", DOLLARS) for resource in resources if _cost(resource)} or {DOLLARS}
    unit = sign(codes.pop()) if len(codes) == 1 else ""
    for name in (*_NUMBERS, f"{unit or 'COST'}/H", f"{unit or 'COST'}/M TOK"):
        table.add_column(name, justify="right")
    table.add_column("REASON")
    for resource in resources:
        table.add_row(*_row(resource, mixed=not unit))
    if len(resources) > 1:
        cost = sum(float(_cost(resource).get("perHour", 0)) for resource in resources)
        up = sum((resource.get("status") or {}).get("readyReplicas", 0) for resource in resources)
        table.add_row(
            Text("total", style="bold"), "", str(up), "", "", "", "", "", f"{cost:.2f}" if unit else "", "", ""
        )
    return table


def _row(resource: Object, *, mixed: bool) -> list[str | Text]:
    """The row of one deployment. `mixed`: the fleet has several currencies, so each amount names its own."""
    status = resource.get("status") or {}
    goodput, cost = status.get("goodput") or {}, _cost(resource)
    ready, replicas = status.get("readyReplicas", "?"), status.get("replicas", "?")
    return [
        str(key_of(resource)),
        status.get("mix", "?"),
        f"{ready}/{replicas}",
        goodput.get("requestsPerSecond", "-"),
        _met(resource),
        _unit(goodput.get("ttftP95Milliseconds"), "ms"),
        _unit(goodput.get("itlP95Milliseconds"), "ms"),
        f"{float(status['gpuUtilization']):.0%}" if "gpuUtilization" in status else "-",
        *(
            "-" if name not in cost else amount(cost[name], cost.get("currency", DOLLARS)) if mixed else cost[name]
            for name in ("perHour", "perMillionOutputTokens")
        ),
        _why(resource),
    ]


def _met(resource: Object) -> Text:
    """Attainment, green if the promise is kept and red if not."""
    share = ((resource.get("status") or {}).get("goodput") or {}).get("attainment")
    state = conditions_of(resource).get("SLOMet", {}).get("status")
    return Text(
        f"{float(share):.1%}" if share is not None else "-",
        style={"True": "green", "False": "red"}.get(str(state), ""),
    )


def _why(resource: Object) -> str:
    """The reason of the condition Stalled, else the reason of the last decision."""
    found = conditions_of(resource)
    if "Stalled" in found:
        return str(found["Stalled"]["reason"])
    return str(((resource.get("status") or {}).get("decision") or {}).get("reason", "-"))


def _cost(resource: Object) -> Object:
    cost: Object = (resource.get("status") or {}).get("cost") or {}
    return cost


def _unit(value: int | None, unit: str) -> str:
    return f"{value} {unit}" if value is not None else "-"


def _rank(resource: Object, sort: str) -> tuple[float, str]:
    goodput = (resource.get("status") or {}).get("goodput") or {}
    rank = {
        "name": 0.0,
        "cost": -float(_cost(resource).get("perHour", 0)),
        "attainment": float(goodput.get("attainment", 2)),
    }[sort]
    return rank, str(key_of(resource))
