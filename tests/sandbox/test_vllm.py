"""
The emulated server compared with the real engine: opt-in (`pytest -m vllm`), takes minutes.

Needs the environment that `tidegate sandbox vllm-env` makes.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.emulator_vs_vllm import CASES, FIGURES, Comparison, compare
from tidegate.sandbox.vllm.environment import find_environment
from tidegate.sandbox.vllm.factory import Factory

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

OFF_MAX = 0.10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def factory() -> AsyncIterator[Factory]:
    environment = find_environment()
    if environment is None:
        pytest.skip("no vLLM on this machine: `tidegate sandbox vllm-env` makes its environment")
    async with Factory(environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compared(factory: Factory) -> dict[str, Comparison]:
    return {}


@pytest.mark.parametrize("case", CASES)
async def test_clients_see_the_same_times(case: str, factory: Factory, compared: dict[str, Comparison]) -> None:
    compared[case] = found = await compare(case, factory)
    assert (found.emulated.seen.failed, found.real.seen.failed) == (0, 0)
    assert found.emulated.seen.tokens == found.real.seen.tokens
    off = {name: round(figure[2], 3) for name, figure in found.figures().items() if abs(figure[2]) > OFF_MAX}
    if off and not found.kept_up:
        pytest.skip(f"this machine is too slow for the law of the comparison: {found.late}")
    assert off == {}, dict(zip(FIGURES, found.figures().values(), strict=True))


async def test_metrics_have_the_same_names_types_labels_and_edges(
    factory: Factory, compared: dict[str, Comparison]
) -> None:
    found = compared.get("short of memory") or await compare("short of memory", factory)
    assert found.emulated.names() == found.real.names()


async def test_both_preempt_as_often(factory: Factory, compared: dict[str, Comparison]) -> None:
    found = compared.get("short of memory") or await compare("short of memory", factory)
    mine, theirs = (run.counter("vllm:num_preemptions_total") for run in (found.emulated, found.real))
    assert theirs > 10, "the case is there to run out of memory"
    assert mine == pytest.approx(theirs, rel=0.25)
