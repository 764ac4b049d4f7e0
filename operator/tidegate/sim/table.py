"""
Scores as a table for people and as plain values for programs.

In:    scores by policy name, one scenario or many.
Out:   a rich table, or JSON-able rows.
"""

from collections.abc import Mapping
from math import isnan

from rich.table import Table
from rich.text import Text

from tidegate.sim.score import Score

COLUMNS = (
    "scenario", "policy", "attainment", "$/M good tok", "GPU h", "J/good tok", "quality", "actions", "vs best",
)  # fmt: skip
# The last column divides by this one: the best anybody could have done through the same actuators.
REFERENCE = "clairvoyant"
MARK = " !"


def relative(scores: Mapping[str, Score], name: str) -> float | None:
    """Money per good token of a policy over that of the clairvoyant; None where either is not known."""
    if name not in scores or REFERENCE not in scores:
        return None
    own, best = scores[name].usd_per_million_good_tokens, scores[REFERENCE].usd_per_million_good_tokens
    return own / best if own is not None and best else None


def table(results: Mapping[str, Mapping[str, Score]]) -> Table:
    """
    One row per scenario and policy; where a promise was not kept its attainment is red, and marked for all.

    Args:
        results: Scores by scenario name and policy name.
    """
    shown = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for column in shown.columns[2:]:
        column.justify = "right"
        column.no_wrap = True
    for scenario, scores in results.items():
        for name, score in scores.items():
            attained, *others = cells(score, relative(scores, name))
            style = "red" if attained.endswith(MARK) else ""
            shown.add_row(scenario, score.policy, Text(attained, style=style), *others)
            scenario = ""  # noqa: PLW2901 - named once per group
        shown.add_section()
    return shown


def rows(results: Mapping[str, Mapping[str, Score]]) -> list[dict[str, object]]:
    """One plain row per scenario and policy, every figure of `Score` in it."""
    return [
        _plain(score.to_json()) | {"name": name, "cost_vs_clairvoyant": relative(scores, name)}
        for scores in results.values()
        for name, score in scores.items()
    ]


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in values.items()}


def cells(score: Score, against: float | None) -> list[str]:
    """A score's figures as text, in the order of the columns after the policy; a missed target is marked."""
    attained = _number(score.attainment, 4)
    if score.attainment is not None and not score.met:
        attained += MARK
    return [
        attained, _number(score.usd_per_million_good_tokens, 3), _number(score.gpu_hours, 2),
        _number(score.joules_per_good_token, 3), _number(score.quality, 4), str(score.actions), _number(against, 2),
    ]  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or isnan(value) else f"{value:.{digits}f}"
