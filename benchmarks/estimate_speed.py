"""
CPU time of `estimate` per tick and deployment.

    python -m benchmarks.estimate_speed [DEPLOYMENTS]

Every deployment has three tiers under its own load, noise in every reading, and request lengths that change randomly by
up to a tenth of a percent per tick, as the forecast's do (they follow within a quarter of an hour). Prints microseconds
of CPU time per deployment: for the first tick (nothing learned, empty caches), for the ticks while laws are learned,
and for the steady state.
"""

import gc
import random
import sys
import time
from collections.abc import Iterator
from statistics import mean

from tidegate import estimate
from tidegate.domain.key import Key
from tidegate.domain.law import Workload
from tidegate.domain.observation import DeploymentObservation, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TierSpec
from tidegate.estimate.priors import prior_of

TICK_S, WINDOW_S = 15.0, 60.0
LEARNING_TICKS, STEADY_TICKS = 40, 20
ACCELERATORS = {name: Accelerator(name=name, price_usd_per_hour=3.0) for name in ("h100", "h200", "a100", "l40s")}
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct")


class Deployment:
    """One deployment with its own load; its true step times are `scale` times the prior's."""

    def __init__(self, index: int) -> None:
        self.rng = random.Random(index)
        accelerator = self.rng.choice(sorted(ACCELERATORS))
        self.spec = DeploymentSpec(
            key=Key("bench", f"d{index}"),
            model=self.rng.choice(MODELS),
            slo=Slo(ttft_s=2.0, itl_s=0.1, attainment=0.95),
            tiers=tuple(_tier(name, accelerator) for name in ("bf16", "fp8", "int4")),
        )
        self.isl, self.osl = self.rng.uniform(200, 4000), self.rng.uniform(50, 800)
        self.scale = self.rng.uniform(0.7, 1.5)
        self.running = self.rng.uniform(2, 40)
        self.memory: estimate.EstimateMemory | None = None

    def observation(self) -> DeploymentObservation:
        """The current observation."""
        self.isl *= self.rng.uniform(0.999, 1.001)
        self.osl *= self.rng.uniform(0.999, 1.001)
        return DeploymentObservation(
            tiers={t.name: TierState(ready=2, startup_s=90.0, reading=self._reading(t)) for t in self.spec.tiers}
        )

    def _reading(self, tier: TierSpec) -> TierReading:
        running = self.running * self.rng.uniform(0.85, 1.15)
        law = prior_of(self.spec.model, tier, ACCELERATORS[tier.accelerator]).law
        itl = self.scale * law.itl_s(running, self.workload) * self.rng.uniform(0.98, 1.02)
        tokens = 2 * running / itl
        return TierReading(
            window_s=WINDOW_S,
            age_s=5.0,
            arrival_rps=tokens / self.osl,
            completion_rps=tokens / self.osl,
            prompt_tokens_mean=self.isl,
            output_tokens_mean=self.osl,
            running=2 * running,
            waiting=0.0,
            itl_mean_s=itl,
            ttft_mean_s=law.prefill_s(self.workload) * self.scale + itl,
        )

    @property
    def workload(self) -> Workload:
        """Current request lengths."""
        return Workload(prompt_tokens=self.isl, output_tokens=self.osl)


def _tier(name: str, accelerator: str) -> TierSpec:
    return TierSpec(
        name=name,
        quality=1.0,
        accelerator=accelerator,
        accelerators_per_replica=2,
        replicas_min=0,
        replicas_max=8,
    )


def ticks(fleet: list[Deployment], count: int, start: int) -> Iterator[float]:
    """Microseconds per deployment of each tick."""
    for tick in range(start, start + count):
        seen = [(d, d.observation(), d.workload, d.rng.uniform(3.0, 3.1)) for d in fleet]
        gc.collect()
        began = time.process_time()
        for deployment, observation, workload, burstiness in seen:
            spec = deployment.spec
            deployment.memory = estimate.learn(
                deployment.memory,
                spec=spec,
                accelerators=ACCELERATORS,
                observation=observation,
                time_s=1.7e9 + tick * TICK_S,
            )
            estimate.startup_times(deployment.memory, spec=spec)
            deployment.memory = estimate.expect(deployment.memory, workload=workload, burstiness=burstiness)
            estimate.assess(deployment.memory, spec=spec, accelerators=ACCELERATORS)
        yield (time.process_time() - began) / len(fleet) * 1e6


def main() -> None:
    """Print the three figures."""
    fleet = [Deployment(index) for index in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)]
    first = next(ticks(fleet, 1, 0))
    learning = list(ticks(fleet, LEARNING_TICKS, 1))
    steady = list(ticks(fleet, STEADY_TICKS, 1 + LEARNING_TICKS))
    print(f"deployments {len(fleet)}, tiers 3, us per deployment and tick")
    print(f"first {first:.0f}, learning {mean(learning):.0f}, steady mean {mean(steady):.1f}, worst {max(steady):.1f}")


if __name__ == "__main__":
    main()
