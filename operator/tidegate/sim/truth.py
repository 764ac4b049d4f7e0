"""
The true performance of a tier: the built-in prior, times a factor.

A factor of 1 means that the priors are right. Any other value has to be learned: with 1.3 every step takes 30 % longer
than the priors say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.estimate.priors import prior_of
from tidegate.sim.engine.fleet import Server
from tidegate.sim.scenario import Startup, TierTruth

# Draw of an unknown accelerator, W: a 400 W board with the H100's proportions.
WATTS_IDLE_UNKNOWN, WATTS_FULL_UNKNOWN = 172.0, 344.0
# log2 of the batch at which the draw is halfway between idle and full (same anchors as in estimate.power).
KNEE_LOG2 = {"a100": 2.5}
KNEE_LOG2_OTHER = 4.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Twist:
    """How the truth differs from the prior: factors on decode and on prefill times, and the start-up time."""

    decode: float = 1.0
    prefill: float = 1.0
    startup: Startup = field(default_factory=Startup)


def truth_of(model: str, tier: TierSpec, accelerator: Accelerator | None, twist: Twist | None = None) -> TierTruth:
    """The true performance of a tier in a run."""
    twist = twist or Twist()
    prior = prior_of(model, tier, accelerator)
    serving, law = prior.serving, prior.law
    low, high = serving.hardware.draw_w or (WATTS_IDLE_UNKNOWN, WATTS_FULL_UNKNOWN)
    devices = serving.tensor_parallel * serving.pipeline_parallel
    return TierTruth(
        server=Server(
            law=_twisted(law, twist),
            token_budget=serving.batched_tokens_max,
            watts_idle=low * devices,
            watts_full=high * devices,
            context_max=serving.context_max,
            watts_knee=KNEE_LOG2.get(serving.hardware.name, KNEE_LOG2_OTHER),
        ),
        startup=twist.startup,
    )


def truths_of(
    spec: DeploymentSpec, accelerators: Mapping[str, Accelerator], twists: Mapping[str, Twist] | None = None
) -> dict[str, TierTruth]:
    """True performance by tier name. `twists` by tier name; `*` applies to tiers that are not named."""
    twists = twists or {}
    return {
        t.name: truth_of(spec.model, t, accelerators.get(t.accelerator), twists.get(t.name, twists.get("*")))
        for t in spec.tiers
    }


def _twisted(law: PerformanceLaw, twist: Twist) -> PerformanceLaw:
    return replace(
        law,
        a_s=law.a_s * twist.decode,
        b_s=law.b_s * twist.decode,
        c_s=law.c_s * twist.decode,
        p0_s=law.p0_s * twist.prefill,
        p1_s=law.p1_s * twist.prefill,
    )
