"""Builders of observations."""

from tidegate.domain.observation import DeploymentObservation, GatewayReading, Missing, TierReading, TierState

NOON = 1_700_049_600.0  # a Wednesday, 12:00 UTC
SILENT = Missing(reason="ScrapeFailed")


def reading(rps: float | None, **more: float | None) -> TierReading:
    """A fresh reading over a minute."""
    known: dict[str, float | None] = {"window_s": 60.0, "age_s": 3.0, "arrival_rps": rps}
    return TierReading(**(known | more))  # type: ignore[arg-type]


def serving(rps: float | None, **more: float | None) -> TierState:
    """A tier with two ready replicas that reports."""
    return TierState(ready=2, reading=reading(rps, **more))


def seen(rps: float, **more: float | None) -> DeploymentObservation:
    """A deployment of one tier."""
    return DeploymentObservation(tiers={"bf16": serving(rps, **more)})


def silence(*, gateway: GatewayReading | None = None) -> DeploymentObservation:
    """Ready replicas, and no metrics of them at all."""
    return DeploymentObservation(tiers={"bf16": TierState(ready=2, reading=SILENT)}, gateway=gateway)


def gateway(rps: float | None, queued: float = 0.0) -> GatewayReading:
    return GatewayReading(arrival_rps=rps, queued=queued)
