"""
Everything that can go wrong, as a tree.

    TidegateError
    |- SpecError     the YAML is wrong: permanent until the object changes; names field, value and allowed range
    `- SourceError   a source is down: temporary; the last safe plan is held; names the source

A bug in Tidegate raises AssertionError or another error in `FAULTS`: that deployment holds, a metric counts it, and the
loop goes on. An expected lack (no GPU, no feasible mix, too little data) is no error but a `Decision` with a reason.
"""

from pathlib import Path

# Characters of a rejected value that are shown.
SHOWN = 60


class TidegateError(Exception):
    """Root of the errors that Tidegate raises on purpose."""


class SpecError(TidegateError):
    """
    What the user wrote cannot be carried out.

    Args:
        field: Path of the field as the user wrote it, e.g. `spec.tiers[1].quality`.
        value: Its value; None: nothing worth showing.
        allowed: What it must be, as a clause: `must be at least 1`.
    """

    def __init__(self, *, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        wrong = "" if value is None else f"invalid value {value!r}: "
        super().__init__(f"{field}: {wrong}{allowed}")


def shown(value: object) -> object:
    """A value as a SpecError shows it: in full if short, else the beginning of its text."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= SHOWN else text[:SHOWN] + "..."


class SourceError(TidegateError):
    """
    A source of facts (the API server, Prometheus) could not answer.

    Args:
        source: Who did not answer, e.g. `prometheus`.
        reason: One CamelCase word for metrics and conditions, e.g. `Timeout`.
        detail: A sentence for people.
    """

    def __init__(self, *, source: str, reason: str, detail: str) -> None:
        self.source, self.reason, self.detail = source, reason, detail
        super().__init__(f"{source}: {reason}: {detail}")

    @classmethod
    def not_written(cls, path: Path, fault: OSError) -> "SourceError":
        """A file that cannot be written: no permission, a full disk."""
        return cls(source=str(path), reason="NotWritten", detail=str(fault.strerror))


# Errors that mean a bug met by one deployment (a math domain error is a ValueError): the others are still planned.
FAULTS = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, TidegateError)
