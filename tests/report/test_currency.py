"""
Amounts have the currency of the accelerator classes.
"""

from dataclasses import replace

import pytest

from tests.actuate.orders import H100
from tests.report.reports import SPEC, decision, report
from tidegate.domain.decision import Alternative, Condition, Status
from tidegate.report.currency import amount, currency_of, in_currency, priced
from tidegate.report.status import deployment_status

EUROS = {"nvidia-h100": replace(H100, currency="EUR")}
SAID = decision(
    message="needs 2 x fp8: $6.00/h",
    conditions=(
        Condition(
            type="WithinBudget",
            status=Status.TRUE,
            reason="Planned",
            message="the plan is within the budget of $40.00/h",
        ),
    ),
    alternatives=(Alternative(replicas={"fp8": 3}, usd_per_hour=9.0, attainment=1.0, why_not="costs $3.00/h more"),),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("needs 2 x fp8: $6.00/h", "needs 2 x fp8: 6.00 EUR/h", id="an amount per hour"),
        pytest.param("$7/h is above the budget of $6.50/h", "7 EUR/h is above the budget of 6.50 EUR/h", id="two"),
        pytest.param("needs $ and patience", "needs $ and patience", id="no amount"),
    ],
)
def test_a_sentence_names_the_currency(text: str, expected: str) -> None:
    assert priced(text, "EUR") == expected
    assert priced(text, "USD") == text


def test_an_amount_is_written_as_people_write_it() -> None:
    assert (amount("12.50", "USD"), amount("12.50", "EUR")) == ("$12.50", "12.50 EUR")


def test_every_sentence_of_a_decision_names_the_currency() -> None:
    assert in_currency(SAID, "USD") is SAID
    said = in_currency(SAID, "EUR")
    texts = [said.message, *(c.message for c in said.conditions), *(a.why_not for a in said.alternatives)]
    assert all("EUR" in text and "$" not in text for text in texts)


def test_the_currency_is_that_of_the_first_known_class() -> None:
    assert currency_of(SPEC, EUROS) == "EUR"
    assert currency_of(SPEC, {}) == "USD"


@pytest.mark.parametrize(
    ("classes", "code"), [({"nvidia-h100": H100}, "USD"), (EUROS, "EUR")], ids=["dollars", "euros"]
)
def test_the_status_names_the_currency(classes: dict[str, object], code: str) -> None:
    assert deployment_status(report(accelerators=classes))["cost"]["currency"] == code
