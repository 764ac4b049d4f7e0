"""
Render verdicts as text, Markdown or JSON.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console
from rich.table import Table

from tidegate.api.answer import plan_of, rounded
from tidegate.cli.console import WIDTH, printable
from tidegate.cli.plan.question import BreakEven, Verdict
from tidegate.domain.decision import Constraint
from tidegate.domain.spec import Accelerator
from tidegate.report.currency import amount, currency_of, in_currency, sign
from tidegate.units import milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: title, column names, rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(verdicts: Sequence[Verdict], accelerators: Mapping[str, Accelerator], *, form: str) -> str:
    """
    The whole output of `tidegate plan`.

    Args:
        verdicts: One per deployment.
        accelerators: Classes by name, for prices.
        form: `text`, `markdown` or `json`.
    """
    verdicts = [_named(verdict, accelerators) for verdict in verdicts]
    if form == "json":
        return json.dumps({"deployments": [_json(v, accelerators) for v in verdicts]}, indent=2)
    write: Callable[[Sheet], str] = _markdown if form == "markdown" else _text
    mark = "## " if form == "markdown" else ""
    return "\n".join(_section(v, accelerators, write, mark) for v in verdicts).rstrip()


def _named(verdict: Verdict, accelerators: Mapping[str, Accelerator]) -> Verdict:
    """The verdict with the amounts in its messages in the currency of its classes."""
    return replace(verdict, decision=in_currency(verdict.decision, currency_of(verdict.spec, accelerators)))


def _section(
    verdict: Verdict, accelerators: Mapping[str, Accelerator], write: Callable[[Sheet], str], mark: str
) -> str:
    spec, load = verdict.spec, verdict.load
    head = (
        f"{mark}{spec.key}: {printable(spec.model)} at {load.rate_rps:.4g} req/s, "
        f"{load.prompt_tokens:.0f} prompt and {load.output_tokens:.0f} output tokens"
    )
    if verdict.supposed:
        head = f"{head}\n\n{verdict.supposed}"
    if verdict.decision.error is not None:
        return f"{head}\n\ncannot be planned: {verdict.decision.error}\n"
    code = currency_of(spec, accelerators)
    sheets = [_tiers(verdict, accelerators, code), _promises(verdict, code)]
    if verdict.decision.alternatives:
        sheets.append(_alternatives(verdict, code))
    notes = [verdict.decision.message, *_limit(verdict), *verdict.broken]
    if verdict.break_even is not None:
        notes.append(_break_even(verdict.break_even, code))
    return "\n\n".join([head, *(write(sheet) for sheet in sheets), *notes]) + "\n"


def _tiers(verdict: Verdict, accelerators: Mapping[str, Accelerator], code: str) -> Sheet:
    rows = []
    for tier in verdict.spec.tiers:
        decided = verdict.decision.tiers[tier.name]
        price = accelerators[tier.accelerator].price_usd_per_hour * tier.accelerators_per_replica
        rows.append(
            (
                tier.name,
                f"{tier.accelerators_per_replica} x {tier.accelerator}",
                f"{tier.quality:g}",
                str(decided.replicas),
                f"{decided.replicas * price:.2f}",
                _figure(decided.capacity_rps, "{:.2f}"),
                _figure(decided.confidence, "{:.0%}"),
            )
        )
    columns = ("tier", "per replica", "quality", "replicas", f"{sign(code)}/h", "req/s per replica", "confidence")
    return Sheet(title="Fleet", columns=columns, rows=tuple(rows))


def _promises(verdict: Verdict, code: str) -> Sheet:
    prediction, slo, cost = verdict.decision.prediction, verdict.spec.slo, verdict.spec.cost
    if prediction is None:
        return Sheet(title="Promises", columns=("promise", "predicted", "target"), rows=())
    rows = (
        ("time to first token, p95", _ms(prediction.ttft_s_p95), f"{milliseconds(slo.ttft_s):.0f} ms"),
        ("inter-token latency, p95", _ms(prediction.itl_s_p95), f"{milliseconds(slo.itl_s):.0f} ms"),
        ("requests that meet both", _figure(prediction.attainment, "{:.2%}"), f"{slo.attainment:.2%}"),
        ("cost per hour", _money(prediction.usd_per_hour, code), _money(cost.budget_usd_per_hour, code)),
        (
            "cost per million output tokens",
            _money(prediction.usd_per_million_output_tokens, code),
            _money(cost.target_usd_per_million_output_tokens, code),
        ),
        ("mean quality", _figure(prediction.quality_mean, "{:.3f}"), f"{verdict.spec.quality.average_minimum:g}"),
    )
    return Sheet(title="Promises", columns=("promise", "predicted", "target"), rows=rows)


def _alternatives(verdict: Verdict, code: str) -> Sheet:
    rows = tuple(
        (_mix(other.replicas), f"{other.usd_per_hour:.2f}", _figure(other.attainment, "{:.2%}"), other.why_not)
        for other in verdict.decision.alternatives
    )
    return Sheet(title="Alternatives", columns=("fleet", f"{sign(code)}/h", "meet both", "why not"), rows=rows)


def _limit(verdict: Verdict) -> list[str]:
    decision = verdict.decision
    if decision.binding is Constraint.NONE:
        return []
    return [f"limited by {decision.binding.value}; without limits: {_mix(decision.uncapped or {})}"]


def _break_even(even: BreakEven, code: str) -> str:
    own, api = (_money(usd, code) for usd in (even.own_usd_per_hour, even.api_usd_per_hour))
    versus = f"{own}/h here, {api}/h at the API for the same requests"
    if even.rate_rps is None:
        return f"{versus}; no break-even: there is no demand above which this deployment stays cheaper than the API"
    rate = f"{even.rate_rps:.3g} req/s"
    return f"{versus}; break-even at {rate}: from there to its capacity it costs no more than the API"


def _mix(replicas: Mapping[str, int]) -> str:
    return " + ".join(f"{count} x {name}" for name, count in replicas.items() if count) or "no replicas"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{milliseconds(seconds):.0f} ms"


def _money(money: float | None, code: str) -> str:
    return "-" if money is None else amount(f"{money:.2f}", code)


def _text(sheet: Sheet) -> str:
    table = Table(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in sheet.columns:
        table.add_column(column, justify="left" if column in {"tier", "promise", "fleet", "why not"} else "right")
    for row in sheet.rows:
        table.add_row(*row)
    console = Console(width=WIDTH, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def _markdown(sheet: Sheet) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(sheet.columns), line(["---"] * len(sheet.columns)), *(line(row) for row in sheet.rows)])


def _json(verdict: Verdict, accelerators: Mapping[str, Accelerator]) -> dict[str, object]:
    """The plan as in the protocol, with additional fields."""
    import msgspec

    decision, even = verdict.decision, verdict.break_even
    plan: dict[str, object] = msgspec.to_builtins(plan_of(decision))
    plan["promisesKept"] = verdict.is_kept
    plan["currency"] = currency_of(verdict.spec, accelerators)
    plan["manifest"] = {"mode": verdict.spec.mode.value, "paused": verdict.spec.paused}
    plan["demand"] = {
        "arrival_rate": rounded(verdict.load.rate_rps, 4),
        "prompt_tokens": rounded(verdict.load.prompt_tokens, 1),
        "output_tokens": rounded(verdict.load.output_tokens, 1),
    }
    plan["bindingConstraint"] = decision.binding.value
    plan["uncapped"] = None if decision.uncapped is None else dict(decision.uncapped)
    plan["alternatives"] = [
        {
            "tiers": dict(other.replicas),
            "cost_per_hour": rounded(other.usd_per_hour, 4),
            "attainment": rounded(other.attainment, 4),
            "why_not": other.why_not,
        }
        for other in decision.alternatives
    ]
    if even is not None:
        plan["breakEven"] = {
            "api_cost_per_hour": rounded(even.api_usd_per_hour, 4),
            "cost_per_hour": rounded(even.own_usd_per_hour, 4),
            "arrival_rate": rounded(even.rate_rps, 4),
        }
    return plan
