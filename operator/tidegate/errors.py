"""
Everything that can go wrong, drawn as a tree.

    TidegateError
    |- SpecError     your YAML is wrong: permanent until the object changes; names field, value and allowed range
    `- SourceError   the world is down: temporary; the last safe plan is held; names the source

"We are wrong" is an AssertionError, or what else `FAULTS` lists: the deployment holds, a metric counts it, the loop
lives on.
Expected lack (no GPU, no feasible mix, too little data) is no error at all but a `Decision` with a reason.
"""

from pathlib import Path

# Of a value that is not allowed so many characters are told.
SHOWN = 60


class TidegateError(Exception):
    """Root of the errors that Tidegate raises on purpose."""


class SpecError(TidegateError):
    """
    What the user wrote cannot be carried out.

    Args:
        field: Path of the field as the user wrote it, e.g. `spec.tiers[1].quality`.
        value: What stands there.
        allowed: What may stand there, in words.
    """

    def __init__(self, *, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: {value!r} is not allowed; {allowed}")


def shown(value: object) -> object:
    """A value of any size as a SpecError shows it: whole, or the beginning of its text."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= SHOWN else text[:SHOWN] + "..."


class SourceError(TidegateError):
    """
    A source of facts (the API server, Prometheus) could not answer.

    Args:
        source: Who did not answer, e.g. `prometheus`.
        reason: One CamelCase word for metrics and conditions, e.g. `Timeout`.
        detail: The sentence for people.
    """

    def __init__(self, *, source: str, reason: str, detail: str) -> None:
        self.source, self.reason, self.detail = source, reason, detail
        super().__init__(f"{source}: {reason}: {detail}")

    @classmethod
    def not_written(cls, path: Path, fault: OSError) -> "SourceError":
        """A file that cannot be written: no right to it, a full disk."""
        return cls(source=str(path), reason="NotWritten", detail=str(fault.strerror))


# "We are wrong", in one deployment, a logarithm of less than nothing (ValueError) among it: the others are planned.
FAULTS = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, TidegateError)
