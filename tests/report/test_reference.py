"""The page of conditions names every word that the code can say."""

import ast
import re
from pathlib import Path

import pytest

from tidegate.domain.decision import Constraint, Reason
from tidegate.report.conditions import ORDER

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text()
ROOMS = [ROOT / "operator" / "tidegate" / room for room in ("actuate", "report", "plan")]
MAKERS = {"Condition", "_made", "_condition", "_true", "stalled", "limited", "_unknown"}


def reasons() -> set[str]:
    """CamelCase literals in the calls that make a condition; types and states are not reasons."""
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


def test_the_code_was_read() -> None:
    assert {"TargetNotFound", "OtherWriter", "AboveBudget", "Missed"} <= reasons()
