"""
From an order to API calls: what differs from what is wanted, and nothing else.

In:    a `Scene`.
Out:   chains of writes, and findings. Chains are independent of each other.
Rules: pure. If everything is right, there is no write.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tidegate.actuate.build import builds, retired
from tidegate.actuate.manifests import shared_refs
from tidegate.actuate.moves import Move, moves
from tidegate.actuate.scene import Chain, Scene
from tidegate.actuate.vllm import findings
from tidegate.domain.decision import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What to write, in this order; findings; and by tier the replicas that are already as decided."""

    chains: tuple[Chain, ...] = ()
    conditions: tuple[Condition, ...] = ()
    rests: Mapping[str, int] = field(default_factory=dict)


def steps(scene: Scene) -> Steps:
    """What to do for one deployment; nothing if its mode or a pause forbids it."""
    spec = scene.spec
    if not spec.acts:
        return Steps()
    made, taken = builds(scene)
    replicas = moves(scene)
    # Service and PodMonitor come first, workloads that are not scaled last.
    shared = [made.pop(ref) for ref in shared_refs(spec) if ref in made]
    scaled = [chain for move in replicas.moves for chain in _scaled(move, made.pop(move.ref, ()), scene)]
    warnings = [finding for tier in spec.tiers for finding in findings(tier)]
    return Steps(
        chains=(*shared, *scaled, *made.values(), *retired(scene)),
        conditions=_merged([*taken, *replicas.conditions, *warnings]),
        rests=replicas.rests,
    )


def _scaled(move: Move, build: Chain, scene: Scene) -> Iterator[Chain]:
    """A workload is created before it is scaled. One that exists is scaled even if its update is refused."""
    if scene.workload(move.ref) is None:
        yield (*build, move.write)
        return
    if build:
        yield build
    yield (move.write,)


def _merged(conditions: list[Condition]) -> tuple[Condition, ...]:
    """One finding per type: the reason of the first, the messages of all."""
    merged: dict[str, Condition] = {}
    for finding in conditions:
        first = merged.get(finding.type)
        both = finding if first is None else replace(first, message=f"{first.message}; {finding.message}")
        merged[finding.type] = both
    return tuple(merged.values())
