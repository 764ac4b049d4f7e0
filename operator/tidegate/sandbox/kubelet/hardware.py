"""
How a container performs on its accelerators: law, power draw, start-up time.

In:    the container, the node's product label, a seed.
Out:   a `Hardware`.

The law is the built-in prior for that model, accelerator, precision and parallelism, changed by up to a tenth, because
no real fleet matches a table exactly and the operator must learn the difference. The deviation depends on the seed and
the tier, so all replicas of a tier are alike and runs are repeatable.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Accelerator, TierSpec, WorkloadTemplate
from tidegate.estimate.power import power_w
from tidegate.estimate.priors import prior_of
from tidegate.estimate.serving import Serving
from tidegate.estimate.startup import prior_s
from tidegate.sandbox.emulator.args import Options
from tidegate.sandbox.emulator.server import LAW_VARIABLE
from tidegate.sandbox.emulator.steps import slower

# Largest relative deviation from the prior, and standard deviation of the logarithm of start-up times.
DEVIATION = 0.1
STARTUP_SPREAD = 0.12
# Share of the image pull in a start-up, if the node does not have the image yet.
PULL_SHARE = 0.3
# Draw of an idle accelerator with loaded weights, relative to that with one request. An estimate without a source.
IDLE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """
    One container on its accelerators.

    Args:
        law: Its performance law.
        startup_s: Time from container start to an open port, s, at pace 1.
        pull_s: Time of the image pull if the node lacks the image, s, at pace 1.
        serving: What it serves, and how.
    """

    law: PerformanceLaw
    startup_s: float
    pull_s: float
    serving: Serving

    def power_w(self, running: float) -> float | None:
        """Draw of all its accelerators with `running` requests, W; None if the accelerator is unknown."""
        draw = power_w(self.serving, running)
        return draw * IDLE_SHARE if draw is not None and running < 1 else draw


def hardware_of(
    options: Options, *, arguments: Sequence[str], env: Mapping[str, str], product: str, gpus: int, seed: int
) -> Hardware:
    """
    The hardware of a vLLM container.

    Args:
        options: Its parsed arguments.
        arguments: Its arguments as written.
        env: Its environment; `TIDEGATE_LAW` (fields of a `PerformanceLaw` as JSON) overrides the prior.
        product: Product label of the node.
        gpus: Accelerators that it requests.
        seed: Seed of the sandbox.
    """
    tier = TierSpec(
        name="tier",
        quality=1.0,
        accelerator=product,
        accelerators_per_replica=max(1, gpus),
        replicas_min=0,
        replicas_max=1,
        workload=WorkloadTemplate(image="", model=options.model, args=tuple(arguments)),
    )
    prior = prior_of(options.model, tier, Accelerator(name=product, price_usd_per_hour=0.0, product=product))
    chance = random.Random(f"{seed}/{options.model}/{options.quantization}/{product}/{gpus}")
    factor = 1.0 + DEVIATION * (2 * chance.random() - 1)
    law = PerformanceLaw(**json.loads(env[LAW_VARIABLE])) if LAW_VARIABLE in env else slower(prior.law, factor)
    whole_s = prior_s(prior.serving)
    return Hardware(law=law, startup_s=whole_s * (1 - PULL_SHARE), pull_s=whole_s * PULL_SHARE, serving=prior.serving)


def drawn(median_s: float, *, seed: int, name: str) -> float:
    """A random time around a median; the same seed and name give the same time."""
    return median_s * random.Random(f"{seed}/{name}").lognormvariate(0.0, STARTUP_SPREAD)
