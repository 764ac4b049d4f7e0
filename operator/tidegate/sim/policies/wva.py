"""
llm-d's Workload Variant Autoscaler (ended with v0.9): the only rival that knows several variants of a model.

Source: llm-d/llm-d-workload-variant-autoscaler, `internal/engines/saturation`, `internal/queueing/analyzer`, as of
v0.5 (V1) and v0.9 (V2, queueing model). A variant is a tier; its cost is the price per replica and hour.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, floor
from statistics import median

from tidegate.domain.key import Key
from tidegate.sim.limits import inside
from tidegate.sim.metrics import Gauges
from tidegate.sim.policies.base import Choice, TierKey, View, chosen_tiers, others_at_minimum
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One tier as WVA sees it: replicas, its pods, price ($/h per replica), bounds."""

    tier: TierKey
    target: int
    pods: tuple[Gauges, ...]
    usd: float
    low: int
    high: int

    @property
    def name(self) -> str:
        """The tier's name, which breaks ties."""
        return self.tier[1]


def variants(view: View, key: Key, tiers: list[TierKey]) -> list[Variant]:
    """
    The tiers of a deployment that WVA scales, cheapest first.

    WVA has no bound on the total, so the deployment's maximum limits each variant.
    """
    spec, limits = view.policy.deployments[key], view.limits(key)
    found = []
    for tier in (t for t in spec.tiers if (key, t.name) in tiers):
        usd = view.policy.accelerators[tier.accelerator].price_usd_per_hour * tier.accelerators_per_replica
        found.append(
            Variant(
                tier=(key, tier.name),
                target=view.wanted[key, tier.name],
                pods=tuple(seen(view, (key, tier.name))),
                usd=usd,
                low=limits.tiers[tier.name][0],
                high=limits.tiers[tier.name][1],
            )
        )
    return sorted(found, key=lambda v: (v.usd, v.name))


def seen(view: View, tier: TierKey) -> list[Gauges]:
    """Gauges of a tier's pods; none while its metrics are missing."""
    return [] if view.reading(tier) is None else view.gauges(tier)


def told(scenario: Scenario, tier: str | None) -> list[TierKey]:
    """The tiers that WVA scales: all of them, or one of each deployment."""
    if tier is not None:
        return chosen_tiers(scenario, tier)
    return [(s.spec.key, t.name) for s in scenario.services for t in s.spec.tiers]


def bounded(view: View, key: Key, wish: dict[TierKey, int], order: list[Variant]) -> dict[TierKey, int]:
    """
    WVA's decision within the total, which WVA does not know: expensive variants are cut, the cheapest is filled up.

    Args:
        order: Variants, cheapest first.
    """
    limits, asked = view.limits(key), {v.name: wish.get(v.tier, v.target) for v in order}
    least = limits.idle if limits.idle < limits.low and _is_idle(view, key) else limits.low
    kept = inside(limits, asked, order=[v.name for v in order], least=least)
    return {(key, name): count for name, count in kept.items()}


def _is_idle(view: View, key: Key) -> bool:
    pods = [pod for tier in view.wanted if tier[0] == key for pod in seen(view, tier)]
    return view.queued(key) <= 0 and all(pod.running + pod.waiting == 0 for pod in pods)


@dataclass(slots=True)
class Delay:
    """HPA's stabilization, with the same window in both directions. What it finds is its first recommendation."""

    window_s: float
    asked: list[tuple[float, int]] = field(default_factory=list)

    def settle(self, time_s: float, current: int, raw: int) -> int:
        """The replicas that HPA sets."""
        if not self.asked:
            self.asked.append((time_s, current))
        recent = [raw, *(value for at_s, value in self.asked if at_s > time_s - self.window_s)]
        self.asked.append((time_s, raw))
        return max(current, min(recent)) if raw >= current else min(current, max(recent))


class Saturation:
    """
    V1: adds a replica of the cheapest variant when the spare KV or queue capacity of the unsaturated replicas is low,
    and removes one of the most expensive (ties: the last by name) when the rest could take its load. It does nothing
    while a replica is starting.

    The HPA behind it is configured as in the chart: 240 s of stabilization in both directions.
    Simplification: evaluated at every second tick (30 s); the GPU limiter (off by default) is not modelled.

    Args:
        spare: Spare share of the KV cache below which it grows; the knob.
    """

    KNOB = ("spare", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    KV, QUEUE, QUEUE_SPARE, WINDOW_S = 0.8, 5.0, 3.0, 240.0

    def __init__(self, scenario: Scenario, tier: str | None = None, *, spare: float = 0.1) -> None:
        self.name = "wva-v1"
        self._spare = spare
        self._keys = [s.spec.key for s in scenario.services]
        self._tiers = told(scenario, tier)
        self._delays: dict[TierKey, Delay] = {}
        self._asked: dict[TierKey, int] = {}
        self._tick = 0

    def decide(self, view: View) -> Choice:
        """Run one loop of WVA, and the HPA that follows its gauge."""
        self._tick += 1
        wish: dict[TierKey, int] = {}
        for key in self._keys:
            found = variants(view, key, self._tiers)
            if self._tick % 2 == 1:
                self._asked |= self._one(view, key, found)
            settled = {}
            for v in found:
                delay = self._delays.setdefault(v.tier, Delay(self.WINDOW_S))
                settled[v.tier] = delay.settle(view.time_s, v.target, self._asked.get(v.tier, v.target))
            wish |= bounded(view, key, settled, found)
        return Choice(replicas=others_at_minimum(view, self._tiers, wish))

    def _one(self, view: View, key: Key, found: list[Variant]) -> dict[TierKey, int]:
        targets = {v.tier: v.target for v in found}
        if sum(targets.values()) == 0:
            return targets | ({found[0].tier: 1} if view.queued(key) > 0 else {})
        starting = any(view.state(v.tier).starting or len(v.pods) != v.target for v in found)
        pods = [p for v in found for p in v.pods]
        if starting or not pods:
            return targets
        calm = [p for p in pods if p.kv_usage_max < self.KV and p.waiting_max < self.QUEUE]
        spare_kv = sum(self.KV - p.kv_usage_max for p in calm) / len(calm) if calm else 0.0
        spare_queue = sum(self.QUEUE - p.waiting_max for p in calm) / len(calm) if calm else 0.0
        if spare_kv < self._spare or spare_queue < self.QUEUE_SPARE:
            growable = next((v for v in found if v.target < v.high), None)
            return targets | ({growable.tier: growable.target + 1} if growable else {})
        if len(calm) >= 2:
            factor = len(calm) / (len(calm) - 1)
            kv_after = self.KV - (self.KV - spare_kv) * factor
            queue_after = self.QUEUE - (self.QUEUE - spare_queue) * factor
            shrinkable = next((v for v in reversed(found) if v.target > 1), None)
            if kv_after >= self._spare and queue_after >= self.QUEUE_SPARE and shrinkable:
                return targets | {shrinkable.tier: shrinkable.target - 1}
        return targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """
    Inputs of WVA's optimizer, in one unit of load: capacity of a replica by tier, supply of the ready replicas and with
    those starting, demand, and the shares of supply above which it grows and below which it shrinks.
    """

    capacity: dict[TierKey, float]
    supply: float
    anticipated: float
    demand: float
    high: float
    low: float


def cost_aware(found: list[Variant], balance: Balance) -> dict[TierKey, int]:
    """The greedy optimizer: add the cheapest per capacity, remove the most expensive; the last variant keeps one."""
    wish = {v.tier: v.target for v in found}
    lacking = max(0.0, balance.demand / balance.high - balance.anticipated)
    spare = max(0.0, balance.supply - balance.demand / balance.low)
    able = [v for v in found if balance.capacity[v.tier] > 0]
    if lacking > 0:
        for v in sorted(able, key=lambda v: (v.usd / balance.capacity[v.tier], v.name)):
            more = min(ceil(lacking / balance.capacity[v.tier]), v.high - wish[v.tier])
            wish[v.tier] += max(0, more)
            lacking -= max(0, more) * balance.capacity[v.tier]
            if lacking <= 0:
                break
    elif spare > 0:
        for v in sorted(able, key=lambda v: (-v.usd, balance.capacity[v.tier], v.name)):
            others = sum(n for t, n in wish.items() if t != v.tier)
            keep = max(v.low, 0 if others else 1)
            fewer = min(floor(spare / balance.capacity[v.tier]), wish[v.tier] - keep)
            wish[v.tier] -= max(0, fewer)
            spare -= max(0, fewer) * balance.capacity[v.tier]
    return wish


class Tokens:
    """
    V2: KV tokens in use and waiting, relative to the KV tokens that the replicas can hold.

    A replica holds at most 80 % of its KV cache, and at most as much as it had in use while it had a queue: now, else
    the mean of the last ten such samples, else what its arguments allow. A variant without replicas is assumed to hold
    what it held before, else what another variant on the same accelerators holds.
    The HPA behind it has the stabilization of one of the two v0.9 samples: none, or 60 s in both directions.
    Simplification: one analysis per tick (15 s, as shipped).

    Args:
        high: Share of supply above which it grows; the knob. It shrinks below 14/17 of that (0.70, as shipped).
        window_s: Stabilization window of the HPA, s.
    """

    KNOB = ("high", (0.2, 0.35, 0.5, 0.65, 0.85, 0.95))
    SHIPPED = ("window_s", (0.0, 60.0))
    KV, QUEUE, SAMPLES = 0.8, 5, 10
    LENGTHS = (100.0, 500.0)  # answers shorter than these share a history

    def __init__(
        self, scenario: Scenario, tier: str | None = None, *, high: float = 0.85, window_s: float = 0.0
    ) -> None:
        self.name = "wva-v2"
        self._high, self._window_s = high, window_s
        self._keys = [s.spec.key for s in scenario.services]
        self._tiers = told(scenario, tier)
        self._servers = {(s.spec.key, n): t.server for s in scenario.services for n, t in s.truths.items()}
        self._full: dict[tuple[TierKey, int], deque[float]] = {}
        self._held: dict[TierKey, float] = {}
        self._delays: dict[TierKey, Delay] = {}

    def decide(self, view: View) -> Choice:
        """Run one loop of WVA, and the HPA that follows its gauge."""
        wish: dict[TierKey, int] = {}
        for key in self._keys:
            found = variants(view, key, self._tiers)
            asked = self._one(view, key, found)
            delays = {v.tier: self._delays.setdefault(v.tier, Delay(self._window_s)) for v in found}
            settled = {v.tier: delays[v.tier].settle(view.time_s, v.target, asked[v.tier]) for v in found}
            wish |= bounded(view, key, settled, found)
        return Choice(replicas=others_at_minimum(view, self._tiers, wish))

    def _one(self, view: View, key: Key, found: list[Variant]) -> dict[TierKey, int]:
        targets = {v.tier: v.target for v in found}
        if not any(v.pods for v in found):
            lone = view.queued(key) > 0 and not any(targets.values())
            return targets | ({found[0].tier: 1} if lone else {})
        prompt, output = shape(view, found)
        demand = view.queued(key) * (prompt + output)
        for v in found:
            demand += sum(p.kv_usage_max * self._kv(v) + p.waiting_max * (prompt + output) for p in v.pods)
            if v.pods:
                self._held[v.tier] = median(self._capacity(v, pod, prompt, output) for pod in v.pods)
        capacity = {v.tier: self._believed(view, v, prompt, output) for v in found}
        return cost_aware(found, balance_of(view, found, capacity, demand, high=self._high, low=self._high * 14 / 17))

    def _kv(self, variant: Variant) -> float:
        return self._servers[variant.tier].law.kv_cache_tokens

    def _capacity(self, variant: Variant, pod: Gauges, prompt: float, output: float) -> float:
        """KV tokens that one pod can hold."""
        by_memory, in_use = self.KV * self._kv(variant), pod.kv_usage_max * self._kv(variant)
        bucket = sum(output >= edge for edge in self.LENGTHS)
        full = self._full.setdefault((variant.tier, bucket), deque(maxlen=self.SAMPLES))
        if pod.waiting_max >= self.QUEUE and in_use > 0:
            full.append(in_use)
            return min(by_memory, in_use)
        return min(by_memory, sum(full) / len(full) if full else self._by_arguments(variant, prompt, output))

    def _by_arguments(self, variant: Variant, prompt: float, output: float) -> float:
        """KV tokens of as many requests as `max-num-batched-tokens` and `max-num-seqs` allow."""
        server = self._servers[variant.tier]
        batch = min(server.token_budget * output / (prompt + output), server.law.running_max)
        return batch * (prompt + output / 2)

    def _believed(self, view: View, variant: Variant, prompt: float, output: float) -> float:
        """Capacity of a variant: its last known one, else that of one on the same accelerators, else by arguments."""
        spec = view.spec(variant.tier)
        own = spec.tier(variant.name)
        like = [
            (variant.tier[0], t.name)
            for t in spec.tiers
            if (t.accelerator, t.accelerators_per_replica) == (own.accelerator, own.accelerators_per_replica)
        ]
        for tier in (variant.tier, *like):
            if tier in self._held:
                return self._held[tier]
        return min(self.KV * self._kv(variant), self._by_arguments(variant, prompt, output))


class Queueing:
    """
    The queueing model, repaired: capacity is the highest rate at which the *mean* TTFT and ITL meet their targets.

    A birth-death chain with batch-dependent service rates, solved by bisection. As shipped, supply comes from the
    desired count, so it can never grow; here supply is ready replicas times capacity. This repair is ours; nobody ships
    it.
    Simplifications: true parameters in place of its filter's estimates; TTFT is the wait plus one prefill.

    Args:
        high: Share of capacity above which it grows, 1 as in its code; the knob.
    """

    KNOB = ("high", (0.5, 0.6, 0.7, 0.78, 0.85, 1.0))
    QUEUE = 100

    def __init__(self, scenario: Scenario, tier: str | None = None, *, high: float = 1.0) -> None:
        self.name = "wva-qm"
        self._high = high
        self._keys = [s.spec.key for s in scenario.services]
        self._tiers = told(scenario, tier)
        self._laws = {(s.spec.key, n): t.server.law for s in scenario.services for n, t in s.truths.items()}
        self._known: dict[tuple[TierKey, int, int], float] = {}

    def decide(self, view: View) -> Choice:
        """Run one loop of WVA."""
        wish: dict[TierKey, int] = {}
        for key in self._keys:
            found = variants(view, key, self._tiers)
            wish |= bounded(view, key, self._one(view, key, found), found)
        return Choice(replicas=others_at_minimum(view, self._tiers, wish))

    def _one(self, view: View, key: Key, found: list[Variant]) -> dict[TierKey, int]:
        arrivals = [r.arrival_rps for v in found if (r := view.reading(v.tier)) and r.arrival_rps is not None]
        if not arrivals:
            lone = view.queued(key) > 0 and not any(v.target for v in found)
            return {found[0].tier: 1} if lone else {}
        prompt, output = shape(view, found)
        capacity = {v.tier: self._capacity(view, v.tier, prompt, output) for v in found}
        balance = balance_of(view, found, capacity, sum(arrivals), high=self._high, low=self._high)
        return cost_aware(found, balance)

    def _capacity(self, view: View, tier: TierKey, prompt: float, output: float) -> float:
        # Round the lengths, so that the chain is solved once per request shape.
        rounded = (tier, round(20 * prompt**0.25), round(20 * output**0.25))
        if rounded not in self._known:
            self._known[rounded] = self._solve(view, tier, prompt, output)
        return self._known[rounded]

    def _solve(self, view: View, tier: TierKey, prompt: float, output: float) -> float:
        law, slo = self._laws[tier], view.spec(tier).slo
        prefill = law.p0_s + law.p1_s * prompt
        most = max(1, int(min(law.running_max, law.kv_cache_tokens / (prompt + output))))
        slope = law.b_s + law.c_s * (prompt + output / 2) + law.p1_s * prompt / output
        rates = [n / (prefill + output * (law.a_s + slope * n)) for n in range(1, most + 1)]
        low, high = 0.001 * rates[0], 0.999 * rates[-1]
        if not self._meets(low, rates, prefill, output, (slo.ttft_s, slo.itl_s)):
            return 0.0
        for _ in range(30):
            middle = (low + high) / 2
            if self._meets(middle, rates, prefill, output, (slo.ttft_s, slo.itl_s)):
                low = middle
            else:
                high = middle
        return low

    def _meets(
        self, rate: float, rates: list[float], prefill: float, output: float, targets: tuple[float, float]
    ) -> bool:
        """Whether mean TTFT and ITL of the chain meet the targets at an arrival rate."""
        chance, total, waiting, served, weight = 1.0, 1.0, 0.0, 0.0, 0.0
        for n in range(1, len(rates) + self.QUEUE + 1):
            chance *= rate / rates[min(n, len(rates)) - 1]
            total += chance
            served += min(n, len(rates)) * chance
            waiting += max(0, n - len(rates)) * chance
            weight = chance
            if total > 1e200:
                return False
        flow = rate * (1 - weight / total)
        wait, stay = waiting / total / flow, served / total / flow
        return wait + prefill <= targets[0] and (stay - prefill) / output <= targets[1]


def shape(view: View, found: list[Variant]) -> tuple[float, float]:
    """Mean prompt and output tokens over the variants that report them; WVA's defaults of 512 and 256 if none does."""
    readings = [r for v in found if (r := view.reading(v.tier)) is not None]
    prompts = [r.prompt_tokens_mean for r in readings if r.prompt_tokens_mean]
    outputs = [r.output_tokens_mean for r in readings if r.output_tokens_mean]
    return (
        sum(prompts) / len(prompts) if prompts else 512.0,
        sum(outputs) / len(outputs) if outputs else 256.0,
    )


def balance_of(
    view: View, found: list[Variant], capacity: dict[TierKey, float], demand: float, *, high: float, low: float
) -> Balance:
    """The optimizer's inputs; `anticipated` counts starting replicas as if they were ready."""
    ready = sum(view.state(v.tier).ready * capacity[v.tier] for v in found)
    wanted = sum(v.target * capacity[v.tier] for v in found)
    return Balance(capacity=capacity, supply=ready, anticipated=max(ready, wanted), demand=demand, high=high, low=low)
