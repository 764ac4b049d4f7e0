"""
Estimates of one replica of each tier at the expected request shape.

In:    the memory, including the expected requests, and the deployment.
Out:   a `TierEstimate` for every tier, including those without replicas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from tidegate.domain.estimate import Relaxed, TierEstimate
from tidegate.domain.key import Key
from tidegate.domain.law import Provenance
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TierSpec
from tidegate.estimate import startup
from tidegate.estimate.capacity import Carried, carried, side_by_side
from tidegate.estimate.kin import ALONE, Kin, kin_of
from tidegate.estimate.law import confidence_of, law_in_force, provenance_of
from tidegate.estimate.memory import EstimateMemory, TierMemory
from tidegate.estimate.power import power_w
from tidegate.estimate.priors import Prior, prior_of
from tidegate.estimate.rebase import under
from tidegate.estimate.relaxed import relaxed
from tidegate.estimate.requests import Requests, workload_of
from tidegate.estimate.service import Service

# At confidence 0 this share of the capacity is given up, at confidence 1 nothing. A row of the table (confidence 0.5)
# gives up a tenth, which is the error of such rows against real runs.
MARGIN_MAX = 0.2


def assess(
    memory: EstimateMemory,
    *,
    spec: DeploymentSpec,
    accelerators: Mapping[str, Accelerator],
) -> Mapping[str, TierEstimate]:
    """
    Estimate of every tier of a deployment, by name.

    Args:
        memory: What was learned, and the expected requests (set by `expect`).
        spec: The deployment.
        accelerators: Classes by name; a tier whose class is missing is estimated on generic hardware.

    Returns:
        The same object as the last time if nothing relevant has changed.
    """
    asked = memory.requests
    assert asked is not None, "no requests are expected: call `expect` first"
    classes = [accelerators.get(tier.accelerator) for tier in spec.tiers]
    slot = _last.pop(spec.key, None)
    if slot is not None and slot.matches(spec, memory, classes):
        return _store(slot).estimates
    older = slot.each if slot is not None and slot.spec is spec else {}
    inputs = {
        tier.name: _Inputs(memory.tiers.get(tier.name), class_, asked, _kin(memory, spec, tier, class_))
        for tier, class_ in zip(spec.tiers, classes, strict=True)
    }
    each = {t.name: _result(older.get(t.name), inputs[t.name], spec, t) for t in spec.tiers}
    instead = _relaxed_targets(spec, inputs, each)
    if instead is not None:
        eased = {name: replace(own, instead=instead) for name, own in inputs.items()}
        each = {t.name: _result(older.get(t.name), eased[t.name], spec, t) for t in spec.tiers}
    estimates = {name: result.estimate for name, result in each.items()}
    return _store(_Slot(spec=spec, memory=memory, classes=classes, each=each, estimates=estimates)).estimates


def startup_times(memory: EstimateMemory, *, spec: DeploymentSpec) -> Mapping[str, float]:
    """Expected start-up time of a replica of each tier, s: learned, or a prior from the size of the weights."""
    times: dict[str, float] = {}
    for tier in spec.tiers:
        known = memory.tiers.get(tier.name)
        if known is not None and known.startup is not None:
            times[tier.name] = known.startup.mean_s
        else:
            times[tier.name] = startup.prior_s(prior_of(spec.model, tier, None).serving)
    return times


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """The cached estimates of a deployment and their inputs (referenced here, so that no object identity is reused)."""

    spec: DeploymentSpec
    memory: EstimateMemory
    classes: list[Accelerator | None]
    each: Mapping[str, "_Result"]
    estimates: Mapping[str, TierEstimate]

    def matches(self, spec: DeploymentSpec, memory: EstimateMemory, classes: list[Accelerator | None]) -> bool:
        """True if the inputs are the same: spec and memory by identity, the classes by value."""
        return self.spec is spec and self.memory is memory and self.classes == classes


@dataclass(frozen=True, slots=True)
class _Inputs:
    """
    The inputs of the estimate of one tier, besides the spec.

    Args:
        known: Memory of the tier; None: nothing was learned.
        class_: Its accelerator class; None: the class does not exist.
        asked: The expected requests.
        kin: Correction of the prior from related tiers.
        instead: The targets planned for if those of the spec cannot be met; None: those of the spec.
    """

    known: TierMemory | None
    class_: Accelerator | None
    asked: Requests
    kin: Kin
    instead: Relaxed | None = None


@dataclass(frozen=True, slots=True)
class _Result:
    """An estimate and its inputs."""

    inputs: _Inputs
    estimate: TierEstimate


def _result(before: _Result | None, inputs: _Inputs, spec: DeploymentSpec, tier: TierSpec) -> _Result:
    """The previous estimate if the inputs are the same, else a new one."""
    if before is not None and before.inputs == inputs:
        return before
    return _Result(inputs, _assess_tier(inputs, spec, tier))


def _relaxed_targets(
    spec: DeploymentSpec, inputs: Mapping[str, _Inputs], each: Mapping[str, _Result]
) -> Relaxed | None:
    """The targets to plan for if all tiers that may serve miss those of the spec even when idle; None: the spec's."""
    may_serve = [t for t in spec.tiers if spec.quality.allows(t.quality)]
    if not may_serve or any(each[t.name].estimate.capacity_rps > 0 for t in may_serve):
        return None
    idle = []
    for tier in may_serve:
        prior, memory = _prior_and_memory(inputs[tier.name], spec, tier)
        service = _service(prior, memory, inputs[tier.name], spec.slo)
        idle.append((service, _misses(memory), each[tier.name].estimate.curve.points[0].attainment))
    return relaxed(idle, spec.slo)


def _store(slot: _Slot) -> _Slot:
    """Store the slot as the most recently used one; if there are too many, the least recently used one is dropped."""
    if len(_last) >= SLOTS_MAX:
        del _last[next(iter(_last))]
    _last[slot.spec.key] = slot
    return slot


# A cache: without it the results are the same, only slower. One slot per deployment, a few KiB each.
_last: dict[Key, _Slot] = {}
SLOTS_MAX = 16384


def _kin(memory: EstimateMemory, spec: DeploymentSpec, tier: TierSpec, class_: Accelerator | None) -> Kin:
    """Correction of a tier's prior from the other tiers on the same accelerators; none if its own law is known."""
    mine = prior_of(spec.model, tier, class_)
    known = under(mine, memory.tiers.get(tier.name))
    if mine.provenance is Provenance.USER or (known is not None and known.windows):
        return ALONE
    beside = [t for t in spec.tiers if t.accelerator == tier.accelerator and t.name != tier.name]
    priors = [(t.name, prior_of(spec.model, t, class_)) for t in beside]
    others = [(prior, under(prior, memory.tiers.get(name))) for name, prior in priors]
    return kin_of([(prior, m) for prior, m in others if m is not None])


def _prior_and_memory(inputs: _Inputs, spec: DeploymentSpec, tier: TierSpec) -> tuple[Prior, TierMemory | None]:
    """The prior of a tier, and its memory if the tier is still configured as when that was learned."""
    prior = prior_of(spec.model, tier, inputs.class_)
    return prior, under(prior, inputs.known)


def _assess_tier(inputs: _Inputs, spec: DeploymentSpec, tier: TierSpec) -> TierEstimate:
    known, (prior, memory) = inputs.known, _prior_and_memory(inputs, spec, tier)
    service = _service(prior, memory, inputs, spec.slo)
    engines = prior.serving.data_parallel
    found = _carried(service, spec.slo.attainment, _misses(memory), engines)
    confidence = confidence_of(prior, memory, running=found.running / engines, kin=inputs.kin.trust)
    startups = known.startup if known is not None else None
    return TierEstimate(
        law=service.law,
        provenance=provenance_of(prior, memory),
        confidence=confidence,
        workload=service.workload,
        curve=found.curve,
        capacity_rps=found.rate_rps * (1.0 - MARGIN_MAX * (1.0 - confidence)),
        startup_s=startup.expected_s(startups, prior.serving),
        startup_s_late=startup.late_s(startups, prior.serving),
        power_w=power_w(prior.serving, found.running),
        pooling=found.pooling,
        relaxed=inputs.instead,
    )


def _service(prior: Prior, memory: TierMemory | None, inputs: _Inputs, slo: Slo) -> Service:
    """One engine of the tier under the expected requests."""
    serving, asked, targets = prior.serving, inputs.asked, inputs.instead or slo
    computed = memory.computed if memory is not None and serving.prefix_caching else None
    return Service(
        law=law_in_force(prior, memory, inputs.kin.factor, inputs.kin.held),
        workload=workload_of(asked, computed or 0),
        batched_tokens_max=float(serving.batched_tokens_max),
        context_max=serving.context_max,
        burstiness=asked.burstiness,
        ttft_s=targets.ttft_s,
        itl_s=targets.itl_s,
        evenness=asked.evenness,
    )


def _misses(memory: TierMemory | None) -> float:
    """The learned factor on the predicted share of misses; 1 without a memory."""
    return memory.misses if memory is not None else 1.0


# For laws that recur: 5 KiB per curve, 50 MiB in all. Unchanged deployments are found in their slot.
@lru_cache(maxsize=10240)
def _carried(service: Service, target: float, misses: float, engines: int) -> Carried:
    found = carried(service, target=target, misses=misses)
    return found if engines == 1 else side_by_side(found, engines)
