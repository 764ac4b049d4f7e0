"""
Rules across the fields of an InferenceDeployment, each in CEL and in Python side by side.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from tidegate.api.fields import Rule

if TYPE_CHECKING:
    from tidegate.api.deployment import InferenceDeploymentSpec, Schedule
    from tidegate.api.resources import InferenceDeployment


def _schedule_fits(spec: InferenceDeploymentSpec, schedule: Schedule) -> bool:
    least = spec.min_replicas if schedule.min_replicas is None else schedule.min_replicas
    most = spec.max_replicas if schedule.max_replicas is None else schedule.max_replicas
    return least <= most


def _tiers_most(spec: InferenceDeploymentSpec) -> int:
    used = [t for t in spec.tiers if _above_minimum(spec, t.quality)]
    return sum(spec.max_replicas if t.max_replicas is None else t.max_replicas for t in used)


def _pin_fits(spec: InferenceDeploymentSpec) -> bool:
    return spec.replicas in (None, 0) or spec.min_replicas <= (spec.replicas or 0) <= spec.max_replicas


def _targets_differ(spec: InferenceDeploymentSpec) -> bool:
    targets = [t.target_ref for t in spec.tiers if t.target_ref is not None]
    return len(set(targets)) == len(targets)


def _reaches(spec: InferenceDeploymentSpec, floor: str | None) -> bool:
    return floor is None or any(Decimal(t.quality) >= Decimal(floor) for t in spec.tiers)


def _above_minimum(spec: InferenceDeploymentSpec, quality: str) -> bool:
    return Decimal(quality) >= Decimal(spec.quality.minimum)


SPEC_RULES = (
    Rule(
        cel="self.minReplicas <= self.maxReplicas",
        message="minReplicas must be at most maxReplicas",
        holds=lambda spec: spec.min_replicas <= spec.max_replicas,
        field="minReplicas",
    ),
    Rule(
        cel="self.minReplicas >= 1 || has(self.scaleToZero)",
        message="minReplicas must be at least 1 unless scaleToZero is set",
        holds=lambda spec: spec.min_replicas >= 1 or spec.scale_to_zero is not None,
        field="minReplicas",
        cluster_only=True,  # without a cluster the minimum is read as 1
    ),
    Rule(
        cel="!has(self.replicas) || self.replicas == 0 || "
        "(self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas)",
        message="replicas must be between minReplicas and maxReplicas, or 0 to switch off",
        holds=_pin_fits,
        field="replicas",
    ),
    Rule(
        cel="!has(self.schedules) || self.schedules.all(s, (has(s.minReplicas) ? s.minReplicas : self.minReplicas) <= "
        "(has(s.maxReplicas) ? s.maxReplicas : self.maxReplicas))",
        message="while a schedule applies, minReplicas must be at most maxReplicas; set both in the schedule",
        holds=lambda spec: all(_schedule_fits(spec, s) for s in spec.schedules),
        field="schedules",
    ),
    Rule(
        cel="self.tiers.exists(t, double(t.quality) >= double(self.quality.minimum))",
        message="at least one tier must have a quality of at least quality.minimum",
        holds=lambda spec: _reaches(spec, spec.quality.minimum),
        field="tiers",
    ),
    Rule(
        cel="!has(self.quality.averageMinimum) || "
        "self.tiers.exists(t, double(t.quality) >= double(self.quality.averageMinimum))",
        message="at least one tier must have a quality of at least quality.averageMinimum",
        holds=lambda spec: _reaches(spec, spec.quality.average_minimum),
        field="tiers",
    ),
    Rule(
        cel="self.tiers.all(t, t.minReplicas == 0 || double(t.quality) >= double(self.quality.minimum))",
        message="a tier with a quality below quality.minimum is never used; its minReplicas must be 0",
        holds=lambda spec: all(t.min_replicas == 0 or _above_minimum(spec, t.quality) for t in spec.tiers),
        field="tiers",
    ),
    Rule(
        cel="self.tiers.map(t, t.minReplicas).sum() <= self.maxReplicas",
        message="the tiers' minReplicas must add up to at most maxReplicas",
        holds=lambda spec: sum(t.min_replicas for t in spec.tiers) <= spec.max_replicas,
        field="tiers",
    ),
    Rule(
        cel="self.tiers.map(t, double(t.quality) >= double(self.quality.minimum), "
        "has(t.maxReplicas) ? t.maxReplicas : self.maxReplicas).sum() >= self.minReplicas",
        message="the maxReplicas of the tiers whose quality is at least quality.minimum must add up to at least "
        "minReplicas",
        holds=lambda spec: _tiers_most(spec) >= spec.min_replicas,
        field="tiers",
    ),
    Rule(
        cel="self.tiers.all(t, !has(t.targetRef) || "
        "self.tiers.exists_one(u, has(u.targetRef) && u.targetRef == t.targetRef))",
        message="two tiers must not have the same targetRef",
        holds=_targets_differ,
        field="tiers",
    ),
)


def _names_fit(resource: InferenceDeployment) -> bool:
    return all(len(resource.metadata.name) + len(tier.name) < 63 for tier in resource.spec.tiers)


# The name becomes a label value and a Service's name, `NAME-TIER` a Deployment's: each has at most 63 characters.
NAME_RULES = (
    Rule(
        cel="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        message="metadata.name must consist of lower-case letters, digits and '-', start with a letter and end with a "
        "letter or digit, because a Service is named after it",
        holds=lambda resource: re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", resource.metadata.name) is not None,
    ),
    Rule(
        cel="self.spec.tiers.all(t, size(self.metadata.name) + size(t.name) < 63)",
        message="metadata.name and a tier's name together must have at most 62 characters",
        holds=_names_fit,
    ),
)
