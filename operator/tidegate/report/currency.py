"""
Money in the currency of the accelerator classes.

The core uses one unit of money and writes it as dollars; prices are never converted. Here, sentences from the core get
the currency that the classes state.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from tidegate.domain.decision import Decision
from tidegate.domain.spec import Accelerator, DeploymentSpec

DOLLARS = "USD"
_AMOUNT = re.compile(r"\$(\d+(?:\.\d+)?)")


def currency_of(spec: DeploymentSpec, accelerators: Mapping[str, Accelerator]) -> str:
    """ISO 4217 code of a deployment's prices: that of its first tier whose class is known."""
    return next((accelerators[t.accelerator].currency for t in spec.tiers if t.accelerator in accelerators), DOLLARS)


def amount(number: str, code: str) -> str:
    """An amount as people write it: `$12.50`, `12.50 EUR`."""
    return f"${number}" if code == DOLLARS else f"{number} {code}"


def sign(code: str) -> str:
    """The heading of a column of amounts."""
    return "$" if code == DOLLARS else code


def priced(text: str, code: str) -> str:
    """A sentence from the core, with its amounts in this currency."""
    return text if code == DOLLARS else _AMOUNT.sub(rf"\1 {code}", text)


def in_currency(decision: Decision, code: str) -> Decision:
    """The decision with its sentences in this currency."""
    if code == DOLLARS:
        return decision
    return replace(
        decision,
        message=priced(decision.message, code),
        conditions=tuple(replace(each, message=priced(each.message, code)) for each in decision.conditions),
        alternatives=tuple(replace(each, why_not=priced(each.why_not, code)) for each in decision.alternatives),
    )
