"""
Faults that make an emulated server fail as real ones do.

Written as NAME or NAME:NUMBER, e.g. `slow:3`, in the container's environment variable `SANDBOX_FAULT`.
"""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.domain.law import PerformanceLaw
from tidegate.errors import SpecError
from tidegate.sandbox.emulator.steps import slower

FAULT_VARIABLE = "SANDBOX_FAULT"


class FaultKind(StrEnum):
    """Kinds of faults."""

    NONE = "none"
    NEVER_READY = "never-ready"  # the port never opens
    DEAD_AT_FIRST_REQUEST = "dead-at-first-request"  # healthy until the first request (for example a missing kernel)
    SLOW = "slow"  # every step takes NUMBER times as long
    CRASH_UNDER_LOAD = "crash-under-load"  # dies when more than NUMBER requests run


# Defaults of NUMBER.
USUAL = {FaultKind.SLOW: 3.0, FaultKind.CRASH_UNDER_LOAD: 8.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault; `number` is a factor (slow) or a count (crash-under-load)."""

    kind: FaultKind = FaultKind.NONE
    number: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> "Fault":
        """The fault in a text; `NONE` if it is empty."""
        if not text:
            return cls()
        name, _, number = text.partition(":")
        try:
            kind = FaultKind(name)
            return cls(kind=kind, number=float(number) if number else USUAL.get(kind, 0.0))
        except ValueError as wrong:
            allowed = f"must be one of {', '.join(FaultKind)}, with :NUMBER where it takes one"
            raise SpecError(field=FAULT_VARIABLE, value=text, allowed=allowed) from wrong

    def applied_to(self, law: PerformanceLaw) -> PerformanceLaw:
        """The law of a server with this fault, given the law of a healthy one."""
        return slower(law, self.number) if self.kind is FaultKind.SLOW else law
