"""The security page names every kind in the operator's RBAC rules."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text().lower()
RULES = yaml.safe_load((ROOT / "charts" / "tidegate" / "files" / "rbac.yaml").read_text())
OWN = {"inferencedeployments", "acceleratorclasses"}
SHORT = {"horizontalpodautoscalers": "hpas", "leases": "lease"}
KINDS = sorted(
    {name.split("/")[0] for rules in RULES.values() for rule in rules for name in rule["resources"]} - OWN,
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_the_rules_mention_is_on_the_page(kind: str) -> None:
    table = PAGE[PAGE.index("| it may |") : PAGE.index("it reads no secret")]
    assert SHORT.get(kind, kind) in table
