"""
Findings from carrying out an order, as conditions that are true.

Rules: pure.
"""

from tidegate.domain.decision import Condition, Status


def stalled(reason: str, message: str) -> Condition:
    """Nothing happens until somebody changes something."""
    return Condition(type="Stalled", status=Status.TRUE, reason=reason, message=message)


def limited(reason: str, message: str) -> Condition:
    """The replicas are not what was decided."""
    return Condition(type="ScalingLimited", status=Status.TRUE, reason=reason, message=message)


def warning(reason: str, message: str) -> Condition:
    """What the user wrote works, but has a drawback."""
    return Condition(type="ConfigurationWarning", status=Status.TRUE, reason=reason, message=message)
