"""
Reproduce llm-d's published result for its SLO-aware rule.

    python benchmarks/sim_llmd.py

Published (llm-d `guides/workload-autoscaling`, README.slo-aware.md): Qwen3-32B on two H100 per replica, 4,000-token
prompts, 2 -> 10 -> 1 requests/s, bounds 3 to 8, targets 3 s and 100 ms. 95.8 % of requests met both targets with 5.93
replicas on average; eight static replicas reached 100 %; the knee of one replica is 1.4 to 1.5 requests/s; pods are
ready after 100 to 135 s.

Not published: answer length and duration of the ramp. 1,000 tokens reproduce the published knee with the built-in
priors, and the ramp is assumed to take an hour. Other combinations are printed too.
"""

from dataclasses import dataclass

from tidegate.domain.key import Key
from tidegate.domain.spec import Slo
from tidegate.sim import generators as make
from tidegate.sim.capacity import knee_rps
from tidegate.sim.generators import Lengths
from tidegate.sim.policies.keda import SloAwareKeda
from tidegate.sim.policies.static import Static
from tidegate.sim.runner import run
from tidegate.sim.scenario import Scenario, Startup
from tidegate.sim.score import score
from tidegate.sim.suite import H100, QWEN_32B, Extra, Flow, single, spec, tiers
from tidegate.sim.truth import Twist

PUBLISHED_ATTAINMENT, PUBLISHED_REPLICAS = 0.958, 5.93
READY_S = 115.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Assumptions about what was not published: tokens per answer, minutes of the ramp."""

    output: int
    minutes: int


GUESSES = [Guess(output=o, minutes=m) for o in (500, 1000) for m in (30, 60)]


def scenario(guess: Guess) -> Scenario:
    """The published setup, completed by a guess."""
    lengths = Lengths(prompt=4000, output=guess.output, prompt_variation=0.05, output_variation=0.1)
    of = spec(
        "qwen", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.100, attainment=0.95), tiers(H100, {"bf16": 2}, most=8),
        replicas_min=3, replicas_max=8,
    )  # fmt: skip
    flow = Flow(rates=make.ramp(levels=(2, 10, 1), duration_s=60.0 * guess.minutes), lengths=lengths, variation=1.0)
    extra = Extra(twists={"*": Twist(startup=Startup(median_s=READY_S, spread=0.1))})
    return single(of, flow, name="llm-d", initial={"bf16": 3}, seed=1, extra=extra)


def main() -> None:
    """Print the table."""
    print(
        "| answer tokens | ramp, min | knee, req/s | attainment | mean replicas | static 8 |\n|---|---|---|---|---|---|"
    )
    for guess in GUESSES:
        of = scenario(guess)
        one = of.services[0]
        knee = knee_rps(one.truths["bf16"].server, one.traffic, one.spec.slo)
        rule = score(run(of, SloAwareKeda(of, "bf16")))
        fixed = score(run(of, Static({(Key("suite", "qwen"), "bf16"): 8})))
        print(
            f"| {guess.output} | {guess.minutes} | {knee:.2f} | {rule.attainment:.3f} | {rule.replicas_mean:.2f} "
            f"| {fixed.attainment:.3f} |"
        )
    print(f"| published | | 1.4 to 1.5 | {PUBLISHED_ATTAINMENT} | {PUBLISHED_REPLICAS} | 1.000 |")


if __name__ == "__main__":
    main()
