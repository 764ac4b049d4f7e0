"""
Scores as tables for people and as plain values for programs.

In:    scores by scenario and policy, one per seed; the currency of their money.
Out:   rich tables, Markdown, or JSON-able rows.
"""

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from rich.table import Table
from rich.text import Text

from tidegate.report.currency import DOLLARS, sign
from tidegate.sim.score import Score
from tidegate.sim.standings import Results, Standing, ratio, ratios

COLUMNS = (
    "scenario", "policy", "attainment", "{}/M good tok", "GPU h", "J/good tok", "quality", "actions", "vs best",
)  # fmt: skip
STANDINGS = ("policy", "kept", "missed by", "vs best", "cheaper", "kept alone")
MARK = " !"


def table(results: Results, code: str = DOLLARS) -> Table:
    """One row per scenario and policy; if a promise was not kept, the attainment is red and marked with `!`."""
    shown = _empty(_columns(code), left=2)
    for scenario, group in results.items():
        for name, scores in group.items():
            attained, *others = cells(scores, ratios(group, name))
            style = "red" if attained.endswith(MARK) else ""
            shown.add_row(scenario, label(name, scores), Text(attained, style=style), *others)
            scenario = ""  # noqa: PLW2901 - named once per group
        shown.add_section()
    return shown


def summary(standings: Sequence[Standing]) -> Table:
    """One row per policy."""
    shown = _empty(STANDINGS, left=1)
    for standing in standings:
        shown.add_row(*_line(standing))
    return shown


def markdown(results: Results, standings: Sequence[Standing], code: str = DOLLARS) -> str:
    """Both tables, first the ranking of policies."""
    body = [
        [scenario, label(name, scores), *cells(scores, ratios(group, name))]
        for scenario, group in results.items()
        for name, scores in group.items()
    ]
    return "\n\n".join([_markdown(STANDINGS, [_line(s) for s in standings]), _markdown(_columns(code), body)])


def rows(results: Results, code: str = DOLLARS) -> list[dict[str, object]]:
    """One JSON row per scenario, policy and seed, with every figure of `Score`; amounts are in `currency`."""
    return [
        _plain(score.to_json()) | {"name": name, "currency": code, "cost_vs_clairvoyant": ratio(group, name, index)}
        for group in results.values()
        for name, scores in group.items()
        for index, score in enumerate(scores)
    ]


def label(name: str, scores: Sequence[Score]) -> str:
    """Label of a row: the policy's full name, with tier and setting, if it is the same for all seeds; else `name`."""
    found = {s.policy for s in scores}
    return found.pop() if len(found) == 1 else name


def cells(scores: Sequence[Score], against: Sequence[float]) -> list[str]:
    """Means over seeds as text, in the order of the columns; the attainment is marked if a seed broke a promise."""
    attained = _mean([s.attainment for s in scores], 4)
    if any(s.attainment is not None and not s.met for s in scores):
        attained += MARK
    return [
        attained,
        _mean([s.usd_per_million_good_tokens for s in scores], 3),
        _mean([s.gpu_hours for s in scores], 2),
        _mean([s.joules_per_good_token for s in scores], 3),
        _mean([s.quality for s in scores], 4),
        _mean([float(s.actions) for s in scores], 0),
        _mean(list(against), 2),
    ]


def _line(standing: Standing) -> list[str]:
    runs, own = standing.runs, standing.is_own
    return [
        standing.policy,
        "-" if runs == 0 else f"{standing.kept} of {runs}",
        "-" if standing.shortfall is None else f"{100 * standing.shortfall:.1f} %",
        "-" if standing.cost is None else f"{standing.cost:.2f}",
        "-" if own or runs == 0 else str(standing.cheaper),
        "-" if own or runs == 0 else str(standing.kept_alone),
    ]


def _columns(code: str) -> tuple[str, ...]:
    return tuple(column.format(sign(code)) for column in COLUMNS)


def _empty(columns: Sequence[str], *, left: int) -> Table:
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in shown.columns[left:]:
        column.justify = "right"
        column.no_wrap = True
    return shown


def _markdown(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    # An unescaped asterisk would start emphasis.
    return "\n".join([*head, *("| " + " | ".join(c.replace("*", r"\*") for c in row) + " |" for row in body)])


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in values.items()}


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [v for v in values if v is not None and not isnan(v)]
    return f"{np.mean(known):.{digits}f}" if known else "-"
