"""
What is found while an order is carried out, as conditions that hold.

Rules: pure.
"""

from tidegate.domain.decision import Condition, Status


def stalled(reason: str, message: str) -> Condition:
    """Nothing moves until somebody changes something."""
    return Condition(type="Stalled", status=Status.TRUE, reason=reason, message=message)


def limited(reason: str, message: str) -> Condition:
    """Replicas are not what was decided."""
    return Condition(type="ScalingLimited", status=Status.TRUE, reason=reason, message=message)


def warning(reason: str, message: str) -> Condition:
    """What the user wrote works, and hurts."""
    return Condition(type="ConfigurationWarning", status=Status.TRUE, reason=reason, message=message)
