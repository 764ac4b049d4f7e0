"""Label selectors, evaluated as in Kubernetes."""

import pytest

from tidegate.observe.selectors import parse_selector, selector_text

LABELS = {"app": "chat", "tier": "fp8", "leaderworkerset.sigs.k8s.io/worker-index": "0"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("app=chat", True),
        ("app==chat", True),
        ("app=code", False),
        ("app=chat,tier=bf16", False),
        ("app=chat, tier in (bf16, fp8)", True),
        ("tier notin (bf16,int4)", True),
        ("tier notin (fp8)", False),
        ("absent notin (x)", True),
        ("app!=code", True),
        ("absent!=x", True),
        ("app", True),
        ("!app", False),
        ("!absent,app=chat", True),
        ("leaderworkerset.sigs.k8s.io/worker-index=0", True),
        ("", False),
        ("app=chat,((", False),
        ("app in", False),
    ],
)
def test_selectors_match_as_in_kubernetes(text: str, matches: bool) -> None:
    assert parse_selector(text).matches(LABELS) is matches


def test_a_long_text_that_is_no_selector_does_not_take_for_ever() -> None:
    """A time that grows with the square of the length would be hours."""
    assert not parse_selector("app" + 2_000_000 * " " + "chat").requirements


def test_a_spec_selector_reads_like_the_text_of_scale() -> None:
    spec = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "d", "operator": "NotIn", "values": ["z"]},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "DoesNotExist"},
        ],
    }
    text = selector_text(spec)
    assert text == "a=1,b=2,c in (x,y),d notin (z),e,!f"
    assert parse_selector(text).matches({"a": "1", "b": "2", "c": "x", "e": ""})
