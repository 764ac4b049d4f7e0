"""
What one replica of each tier does at the expected request shape, and how sure that is.

In:    the memory, with the requests that are expected, and the deployment.
Out:   a `TierEstimate` for every tier, also for those that nothing runs on.
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

# A guess gives up this share of its capacity, certainty none. A row of the table, half believed, gives up a tenth: what
# such rows err by against real runs.
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
        memory: What was learned, and what is expected (`expect`).
        spec: The deployment.
        accelerators: Classes by name; a tier whose class is missing is estimated on a generic one.

    Returns:
        The same object as before where nothing that matters has changed.
    """
    asked = memory.requests
    assert asked is not None, "nobody said which requests are expected"
    classes = [accelerators.get(tier.accelerator) for tier in spec.tiers]
    slot = _last.pop(spec.key, None)
    if slot is not None and slot.answers(spec, memory, classes):
        return _kept(slot).estimates
    older = slot.each if slot is not None and slot.spec is spec else {}
    questions = {
        tier.name: _Question(memory.tiers.get(tier.name), class_, asked, _kin(memory, spec, tier, class_))
        for tier, class_ in zip(spec.tiers, classes, strict=True)
    }
    each = {t.name: _answered(older.get(t.name), questions[t.name], spec, t) for t in spec.tiers}
    instead = _instead(spec, questions, each)
    if instead is not None:
        eased = {name: replace(question, instead=instead) for name, question in questions.items()}
        each = {t.name: _answered(older.get(t.name), eased[t.name], spec, t) for t in spec.tiers}
    estimates = {name: answer.estimate for name, answer in each.items()}
    return _kept(_Slot(spec=spec, memory=memory, classes=classes, each=each, estimates=estimates)).estimates


def startup_times(memory: EstimateMemory, *, spec: DeploymentSpec) -> Mapping[str, float]:
    """Expected start-up of a replica of each tier, s: learned, or a prior by the size of the model."""
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
    """The last answer for a deployment, with all that it depends on (held, so that no identity is used twice)."""

    spec: DeploymentSpec
    memory: EstimateMemory
    classes: list[Accelerator | None]
    each: Mapping[str, "_Answer"]
    estimates: Mapping[str, TierEstimate]

    def answers(self, spec: DeploymentSpec, memory: EstimateMemory, classes: list[Accelerator | None]) -> bool:
        """True where the question is the same: spec and memory by identity, the rest by value."""
        return self.spec is spec and self.memory is memory and self.classes == classes


@dataclass(frozen=True, slots=True)
class _Question:
    """
    All that the estimate of one tier depends on beside the spec.

    Args:
        instead: The targets that are planned for where those of the spec are out of reach; None: the spec's own.
    """

    known: TierMemory | None
    class_: Accelerator | None
    asked: Requests
    kin: Kin
    instead: Relaxed | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """An estimate, and to what."""

    question: _Question
    estimate: TierEstimate


def _answered(before: _Answer | None, question: _Question, spec: DeploymentSpec, tier: TierSpec) -> _Answer:
    """The answer given before, where the question is the same."""
    if before is not None and before.question == question:
        return before
    return _Answer(question, _assess_tier(question, spec, tier))


def _instead(spec: DeploymentSpec, questions: Mapping[str, _Question], each: Mapping[str, _Answer]) -> Relaxed | None:
    """What is planned for where all tiers that may serve miss the spec's targets even idle; None: those targets."""
    may_serve = [t for t in spec.tiers if spec.quality.allows(t.quality)]
    if not may_serve or any(each[t.name].estimate.capacity_rps > 0 for t in may_serve):
        return None
    idle = []
    for tier in may_serve:
        prior, memory = _seen(questions[tier.name], spec, tier)
        service = _service(prior, memory, questions[tier.name], spec.slo)
        idle.append((service, _misses(memory), each[tier.name].estimate.curve.points[0].attainment))
    return relaxed(idle, spec.slo)


def _kept(slot: _Slot) -> _Slot:
    """The slot, which is now the one asked for last; where there are too many, the one not asked for longest goes."""
    if len(_last) >= SLOTS_MAX:
        del _last[next(iter(_last))]
    _last[slot.spec.key] = slot
    return slot


# A memo, not a state: without it the answers are equal, only later. One slot per deployment; a few KiB each.
_last: dict[Key, _Slot] = {}
SLOTS_MAX = 16384


def _kin(memory: EstimateMemory, spec: DeploymentSpec, tier: TierSpec, class_: Accelerator | None) -> Kin:
    """What the other tiers on the same accelerators say of one that was never seen; nothing where its law is known."""
    mine = prior_of(spec.model, tier, class_)
    known = under(mine, memory.tiers.get(tier.name))
    if mine.provenance is Provenance.USER or (known is not None and known.windows):
        return ALONE
    beside = [t for t in spec.tiers if t.accelerator == tier.accelerator and t.name != tier.name]
    priors = [(t.name, prior_of(spec.model, t, class_)) for t in beside]
    others = [(prior, under(prior, memory.tiers.get(name))) for name, prior in priors]
    return kin_of([(prior, m) for prior, m in others if m is not None])


def _seen(question: _Question, spec: DeploymentSpec, tier: TierSpec) -> tuple[Prior, TierMemory | None]:
    """Prior of a tier, and what was learned where it still serves as it did then."""
    prior = prior_of(spec.model, tier, question.class_)
    return prior, under(prior, question.known)


def _assess_tier(question: _Question, spec: DeploymentSpec, tier: TierSpec) -> TierEstimate:
    known, (prior, memory) = question.known, _seen(question, spec, tier)
    service = _service(prior, memory, question, spec.slo)
    engines = prior.serving.data_parallel
    found = _carried(service, spec.slo.attainment, _misses(memory), engines)
    confidence = confidence_of(prior, memory, running=found.running / engines, kin=question.kin.trust)
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
        relaxed=question.instead,
    )


def _service(prior: Prior, memory: TierMemory | None, question: _Question, slo: Slo) -> Service:
    """One engine of the tier, as far as it is known, under requests of this shape."""
    serving, asked, targets = prior.serving, question.asked, question.instead or slo
    computed = memory.computed if memory is not None and serving.prefix_caching else None
    return Service(
        law=law_in_force(prior, memory, question.kin.factor),
        workload=workload_of(asked, computed or 0),
        batched_tokens_max=float(serving.batched_tokens_max),
        context_max=serving.context_max,
        burstiness=asked.burstiness,
        ttft_s=targets.ttft_s,
        itl_s=targets.itl_s,
        evenness=asked.evenness,
    )


def _misses(memory: TierMemory | None) -> float:
    """The learned factor on the share of requests predicted to miss."""
    return memory.misses if memory is not None else 1.0


# Curves of laws that come back: 5 KiB each, 50 MiB in all. What stands still is found in its slot.
@lru_cache(maxsize=10240)
def _carried(service: Service, target: float, misses: float, engines: int) -> Carried:
    found = carried(service, target=target, misses=misses)
    return found if engines == 1 else side_by_side(found, engines)
