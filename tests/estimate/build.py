"""Builders of specs and readings, with defaults for everything a test does not care about."""

from collections.abc import Mapping
from dataclasses import replace

from tidegate import estimate
from tidegate.domain.estimate import TierEstimate
from tidegate.domain.key import Key
from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.domain.observation import DeploymentObservation, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, PerformanceHint, Slo, TierSpec, WorkloadTemplate
from tidegate.estimate.memory import EstimateMemory

H100 = Accelerator(name="nvidia-h100", price_usd_per_hour=3.0)
ACCELERATORS: Mapping[str, Accelerator] = {"nvidia-h100": H100}
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
CHAT = Workload(prompt_tokens=1000.0, output_tokens=250.0)
TICK_S = 15.0


def tier(
    name: str = "bf16",
    *,
    accelerator: str = "nvidia-h100",
    gpus: int = 1,
    args: tuple[str, ...] | None = None,
    model: str | None = None,
    hint: PerformanceHint | None = None,
) -> TierSpec:
    """A tier; with `args` or `model` one whose workload the operator builds."""
    managed = args is not None or model is not None
    return TierSpec(
        name=name,
        quality=1.0,
        accelerator=accelerator,
        accelerators_per_replica=gpus,
        replicas_min=0,
        replicas_max=10,
        workload=WorkloadTemplate(image="vllm", model=model, args=args or ()) if managed else None,
        hint=hint or PerformanceHint(),
    )


def deployment(*tiers: TierSpec, model: str = LLAMA_8B, slo: Slo | None = None) -> DeploymentSpec:
    """A deployment; without tiers it has one called bf16."""
    return DeploymentSpec(
        key=Key("prod", "chat"),
        model=model,
        slo=slo or Slo(ttft_s=0.5, itl_s=0.04, attainment=0.95),
        tiers=tiers or (tier(),),
    )


def assess(
    memory: EstimateMemory,
    spec: DeploymentSpec,
    *,
    workload: Workload = CHAT,
    burstiness: float = 1.0,
    accelerators: Mapping[str, Accelerator] = ACCELERATORS,
) -> Mapping[str, TierEstimate]:
    """The estimates of every tier where these requests are expected."""
    memory = estimate.expect(memory, workload=workload, burstiness=burstiness)
    return estimate.assess(memory, spec=spec, accelerators=accelerators)


def reading_of(
    law: PerformanceLaw, *, running: float, workload: Workload = CHAT, ready: int = 1, **changes: object
) -> TierReading:
    """What a tier reports whose every replica decodes this many requests at a time."""
    itl_s = law.itl_s(running + 1.0, workload)
    tokens = ready * running / itl_s
    made = TierReading(
        window_s=60.0,
        age_s=5.0,
        arrival_rps=tokens / workload.output_tokens,
        completion_rps=tokens / workload.output_tokens,
        prompt_tokens_mean=workload.prompt_tokens,
        output_tokens_mean=workload.output_tokens,
        running=ready * running,
        waiting=0.0,
        itl_mean_s=itl_s,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def seen(
    reading: TierReading | Missing, *, ready: int = 1, name: str = "bf16", startup_s: float | None = None
) -> DeploymentObservation:
    """An observation of one tier."""
    return DeploymentObservation(tiers={name: TierState(ready=ready, startup_s=startup_s, reading=reading)})
