"""`tidegate explain`: why a deployment runs its current fleet, from its status alone."""

import json
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.cli.console import console, printable
from tidegate.cli.named import named
from tidegate.cli.objects import Object, conditions_of, key_of, output_option, read
from tidegate.domain.key import Key
from tidegate.report.currency import DOLLARS, amount, sign

# Conditions that are normally False; the others are normally True.
_ABNORMAL = frozenset(
    {
        "Stalled",
        "Reconciling",
        "Paused",
        "QualityReduced",
        "ScalingLimited",
        "FallbackActive",
        "ConfigurationWarning",
    }
)


@click.command("explain")
@named
@output_option
def command(deployment: Key, kubeconfig: str | None, context: str | None, output: str) -> None:
    """Explain the current decision of DEPLOYMENT ([NAMESPACE/]NAME)."""
    path = f"namespaces/{deployment.namespace}/inferencedeployments/{deployment.name}"
    resource = read(path, kubeconfig=kubeconfig, context=context)
    if output == "json":
        click.echo(json.dumps(resource.get("status") or {}, indent=2))
        return
    out = console()
    for part in explanation(resource):
        out.print(part)


def explanation(resource: Object) -> Iterator[RenderableType]:
    """The output, part by part."""
    spec, status = resource["spec"], resource.get("status") or {}
    slo = spec["slo"]
    model, mode = printable(spec["model"]), spec.get("mode", "Auto")
    yield Text(f"{key_of(resource)}", style="bold") + Text(f"  {model}  mode {mode}")
    yield (
        f"promise   {100 * float(slo.get('attainment', '0.99')):g}% of requests within "
        f"TTFT {slo['ttftMilliseconds']} ms and ITL {slo['itlMilliseconds']} ms"
    )
    yield from _seen(resource)
    yield from _decision(status.get("decision"))
    if status.get("tiers"):
        yield _tiers(spec, status)
    code = (status.get("cost") or {}).get("currency", DOLLARS)
    yield from _alternatives((status.get("decision") or {}).get("alternatives", []), f"{sign(code)}/H")
    yield from _findings(resource)


def _seen(resource: Object) -> Iterator[str]:
    status = resource.get("status") or {}
    goodput, cost = status.get("goodput") or {}, status.get("cost") or {}
    parts = [
        f"{float(goodput['attainment']):.1%} met both targets" if "attainment" in goodput else "",
        f"{goodput['requestsPerSecond']} good req/s" if "requestsPerSecond" in goodput else "",
        f"TTFT p95 {goodput['ttftP95Milliseconds']} ms" if "ttftP95Milliseconds" in goodput else "",
        f"ITL p95 {goodput['itlP95Milliseconds']} ms" if "itlP95Milliseconds" in goodput else "",
    ]
    yield "measured  " + (", ".join(part for part in parts if part) or _unmeasured(resource))
    money = {
        name: amount(value, cost.get("currency", DOLLARS)) for name, value in cost.items() if name.startswith("per")
    }
    prices = [
        f"{money['perHour']}/h" if "perHour" in money else "",
        f"{money['perMillionOutputTokens']} per million tokens" if "perMillionOutputTokens" in money else "",
        f"{money['perMillionGoodTokens']} per million good tokens" if "perMillionGoodTokens" in money else "",
        f"{cost['joulesPerOutputToken']} J per token" if "joulesPerOutputToken" in cost else "",
    ]
    if any(prices):
        yield "cost      " + ", ".join(part for part in prices if part)


def _unmeasured(resource: Object) -> str:
    """Why there is no goodput."""
    state = conditions_of(resource).get("MetricsAvailable", {}).get("status")
    return {"True": "no requests lately", "False": "nothing: no metrics"}.get(str(state), "nothing yet")


def _decision(decision: Object | None) -> Iterator[RenderableType]:
    if decision is None:
        yield "decision  none yet"
        return
    yield Text("decision  ") + Text(decision["reason"], style="bold cyan") + Text(f" at {decision['time']}")
    yield f"          {decision['message']}"
    binding = decision.get("bindingConstraint", "None")
    if binding != "None":
        free = (
            " + ".join(f"{item['replicas']} {item['name']}" for item in decision.get("uncapped", [])) or "no replicas"
        )
        yield Text("limit     ") + Text(binding, style="bold yellow") + Text(f"; without limits: {free}")


def _tiers(spec: Object, status: Object) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("TIER", "ACCELERATOR", "QUALITY"):
        table.add_column(name)
    for name in ("DESIRED", "READY", "STARTING", "REQ/S EACH", "START-UP"):
        table.add_column(name, justify="right")
    states = {tier["name"]: tier for tier in status["tiers"]}
    asked = {tier["name"]: tier for tier in spec["tiers"]}
    for name in dict.fromkeys((*asked, *states)):
        tier, state = asked.get(name), states.get(name, {})
        startup = state.get("startupSeconds")
        table.add_row(
            name,
            f"{tier.get('acceleratorsPerReplica', 1)} x {tier['accelerator']}" if tier else "not in the spec",
            tier.get("quality", "1") if tier else "?",
            *(str(state.get(name, "?")) for name in ("desired", "ready")),
            f"{state.get('starting', '?')}{f' ({failing} failing)' if (failing := state.get('failing')) else ''}",
            str(state.get("capacityPerReplica", "?")),
            f"{startup} s" if startup is not None else "?",
        )
    return table


def _alternatives(plans: list[Object], price: str) -> Iterator[RenderableType]:
    if not plans:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ALTERNATIVE", price, "ATTAINMENT", "WHY NOT"):
        table.add_column(name, justify="right" if name in (price, "ATTAINMENT") else "left")
    for plan in plans:
        mix = " + ".join(f"{item['replicas']} {item['name']}" for item in plan["tiers"]) or "no replicas"
        table.add_row(mix, plan["costPerHour"], plan.get("attainment", "?"), plan["whyNot"])
    yield ""
    yield table


def _findings(resource: Object) -> Iterator[RenderableType]:
    """The conditions that are not in their normal state."""
    yield ""
    found = [c for c in conditions_of(resource).values() if (c["status"] == "True") == (c["type"] in _ABNORMAL)]
    for condition in found:
        head = Text(f"{condition['type']}={condition['status']}", style="bold red")
        yield head + Text(f"  {condition['reason']}: {condition['message']}")
    if not found:
        yield Text("all conditions are good", style="green") if conditions_of(resource) else "no status yet"
