"""
What a container would do on the accelerators it got: its law, its power, its start-up.

In:    the container, the node's product label, a seed.
Out:   a `Hardware`.

The law is the product's own prior for that model, accelerator, precision and parallelism, moved by up to a tenth:
no real fleet equals a table, and an operator whose prior is exactly right has nothing to learn. The deviation is
drawn from the seed and from what the tier is, so that all replicas of a tier are alike and runs can be repeated.
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

# How far from the table the hardware may be, and how much start-ups of one tier differ.
DEVIATION = 0.1
STARTUP_SPREAD = 0.12
# Share of a start-up that is the image's pull, where the node does not have the image yet.
PULL_SHARE = 0.3
# Draw of an accelerator that holds weights and has nothing to do, over that for one request. A guess; nobody says.
IDLE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """
    One container on its accelerators.

    Args:
        law: How fast it is.
        startup_s: From container start to an open port, s of an unhurried cluster.
        pull_s: Pull of its image, where the node lacks it.
        serving: What it serves.
    """

    law: PerformanceLaw
    startup_s: float
    pull_s: float
    serving: Serving

    def power_w(self, running: float) -> float | None:
        """Draw of all its accelerators with so many running requests, W; None where nothing is known of them."""
        draw = power_w(self.serving, running)
        return draw * IDLE_SHARE if draw is not None and running < 1 else draw


def hardware_of(
    options: Options, *, arguments: Sequence[str], env: Mapping[str, str], product: str, gpus: int, seed: int
) -> Hardware:
    """
    The hardware of a vLLM container.

    Args:
        options: Its arguments, read.
        arguments: The same, as written.
        env: Its environment; `TIDEGATE_LAW` (fields of a `PerformanceLaw` as JSON) overrides the table.
        product: Product label of the node.
        gpus: Accelerators it asks for.
        seed: Of the whole sandbox.
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
    """One pod's own time around a median; the same pod name gives the same time."""
    return median_s * random.Random(f"{seed}/{name}").lognormvariate(0.0, STARTUP_SPREAD)
