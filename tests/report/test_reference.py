"""
The page of conditions lists every word that the code can use.
"""

import ast
import re
from pathlib import Path

import pytest

from tidegate.domain.decision import Constraint, Reason
from tidegate.report.conditions import ORDER

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ROOMS = [ROOT / "operator" / "tidegate" / room for room in ("actuate", "report", "plan")]
MAKERS = {"Condition", "_made", "_condition", "_true", "stalled", "limited", "warning", "_unknown"}


def reasons() -> set[str]:
    """CamelCase literals in calls that make a condition; types and statuses are not reasons."""
    found: set[str] = set()
    for file in (file for room in ROOMS for file in room.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                words = [
                    a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)
                ]
                found |= {word for word in words if isinstance(word, str) and re.fullmatch(r"([A-Z][a-z]+)+", word)}
    return found - set(ORDER)


@pytest.mark.parametrize("kind", ORDER)
def test_every_type_has_a_section(kind: str) -> None:
    assert f"\n## {kind}\n" in PAGE


@pytest.mark.parametrize(
    "reason", sorted(reasons() | {r.value for r in Reason} | {c.value for c in Constraint} - {"None"})
)
def test_every_reason_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PAGE


def test_the_reasons_in_the_code_were_found() -> None:
    assert {"TargetNotFound", "OtherWriter", "SlowQuantization", "AboveBudget", "Missed"} <= reasons()


def gaps() -> set[str]:
    """
    Reasons for missing metrics: CamelCase literals in the calls that state them, and those derived from a status code.
    """
    names = ("observe/activation", "observe/collect", "observe/prometheus", "observe/readings", "plan/sight")
    found: set[str] = set()
    for file in [ROOT / "operator" / "tidegate" / f"{name}.py" for name in names]:
        for node in ast.walk(ast.parse(file.read_text())):
            parts: list[ast.expr | None] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = node.func.id in {"Missing", "SourceError", "_failure"}
                parts = [*node.args, *(k.value for k in node.keywords)] if called else []
            elif isinstance(node, ast.Dict):
                parts = list(node.values)
            elif isinstance(node, ast.Return) and node.value is not None:
                parts = list(ast.walk(node.value))
            words = [part.value for part in parts if isinstance(part, ast.Constant)]
            found |= {word for word in words if isinstance(word, str) and re.fullmatch(r"[A-Z][A-Za-z]+", word)}
    # Nothing is reported where no replica is ready (MetricsAvailable is Unknown) or a query only waits for its turn.
    return found - {"NoReplicas", "NotAsked"}


@pytest.mark.parametrize("reason", sorted(gaps()))
def test_every_reason_for_missing_metrics_is_explained(reason: str) -> None:
    assert re.search(rf"^\| .*`{reason}`.* \|", OPERATIONS, re.MULTILINE)


def test_the_reasons_for_missing_metrics_were_found() -> None:
    assert {"Unreachable", "Throttled", "ServerError", "NotANumber", "NoArrivalRate", "NoSeries"} <= gaps()
