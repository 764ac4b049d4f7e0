"""Priors: table, nearest rows, roofline, and the user's own figures, which override them all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.estimate.build import H100, LLAMA_8B, tier
from tidegate.domain.law import Provenance
from tidegate.domain.spec import Accelerator, PerformanceHint
from tidegate.estimate.priors import CONFIDENCE_GUESS, RowKey, nearest, prior_of
from tidegate.estimate.roofline import Coefficients, roofline
from tidegate.estimate.serving import serving_of

LLAMA = "llama-3.1-8b"
COEFFICIENTS = ("a_s", "b_s", "c_s", "p0_s", "p1_s")


def test_a_row_of_the_table_is_taken_as_it_is() -> None:
    found = prior_of(LLAMA_8B, tier("bf16"), H100)
    assert found.provenance is Provenance.TABLE
    assert found.law.a_s == pytest.approx(6.37e-3)
    assert found.law.c_s == pytest.approx(0.0416e-6)
    assert found.law.p1_s == pytest.approx(20.8e-6)


def test_int4_is_believed_less_than_bf16_since_its_source_extrapolates() -> None:
    assert prior_of(LLAMA_8B, tier("int4"), H100).confidence < prior_of(LLAMA_8B, tier("bf16"), H100).confidence


def test_another_model_on_the_same_hardware_lies_between_its_neighbours() -> None:
    small, middle, large = (
        prior_of(model, tier("bf16"), H100).law for model in (LLAMA_8B, "acme/Assistant-13B", "Qwen/Qwen3-32B")
    )
    assert small.a_s < middle.a_s < large.a_s
    assert small.p1_s < middle.p1_s < large.p1_s


def test_a_near_row_is_believed_less_than_its_own_and_more_than_a_guess() -> None:
    own = prior_of(LLAMA_8B, tier("bf16"), H100).confidence
    near = prior_of("acme/Assistant-13B", tier("bf16"), H100).confidence
    guess = prior_of("chat-large", tier("bf16"), H100).confidence
    assert own > near > guess


NEAR = [
    pytest.param((LLAMA, "h100", "bf16", 4), (LLAMA, "h100", "bf16", 1), id="parallelism"),
    pytest.param((LLAMA, "h100", "bf16", 2), (LLAMA, "h100", "bf16", 16), id="parallelism from the other side"),
    pytest.param((LLAMA, "h100", "bf16", 4), ("llama-3.1-70b", "h100", "bf16", 4), id="size"),
    pytest.param((LLAMA, "h100", "bf16", 4), (LLAMA, "l40s", "bf16", 4), id="accelerator"),
    pytest.param((LLAMA, "h100", "bf16", 4), (LLAMA, "h100", "fp8", 4), id="precision"),
    pytest.param((LLAMA, "h100", "bf16", 1), (LLAMA, "l40s", "bf16", 4), id="accelerator before parallelism"),
]


@pytest.mark.parametrize(("near", "far"), NEAR)
def test_the_nearest_row_is_the_most_alike(near: RowKey, far: RowKey) -> None:
    rows = {
        far: Coefficients(**dict.fromkeys(COEFFICIENTS, 2.0)),
        near: Coefficients(**dict.fromkeys(COEFFICIENTS, 1.0)),
    }
    assert nearest(serving_of("acme/Assistant-13B", tier("bf16", gpus=4), H100), rows)[1] is rows[near]


def test_what_more_accelerators_share_takes_less_time() -> None:
    one, two, four = (roofline(serving_of("acme/Assistant-70B", tier("fp8", gpus=n), H100)) for n in (1, 2, 4))
    for name in COEFFICIENTS:
        assert getattr(four, name) < getattr(two, name) < getattr(one, name)


def test_a_layer_takes_its_time_whether_or_not_it_keeps_a_cache() -> None:
    """Layers with a latent cache, or with a state of fixed size, are launched like all others."""
    found = serving_of("acme/Assistant-13B", tier("fp8"), H100)
    small = roofline(replace(found, shape=replace(found.shape, kv_bytes=found.shape.kv_bytes / 10)))
    assert (small.a_s, small.p0_s) == (roofline(found).a_s, roofline(found).p0_s)
    assert small.c_s == pytest.approx(roofline(found).c_s / 10)


def test_4_bit_weights_are_computed_faster_only_where_the_accelerator_can() -> None:
    """B200 computes with 4-bit numbers, H100 must unpack them."""
    for name, is_faster in (("b200", True), ("h100", False)):
        board = Accelerator(name=name, price_usd_per_hour=1.0)
        bf16, nvfp4 = (roofline(serving_of("acme/Assistant-13B", tier(p), board)).p1_s for p in ("bf16", "nvfp4"))
        assert (nvfp4 < bf16) is is_faster


def test_a_user_wins_field_by_field() -> None:
    hint = PerformanceHint(a_s=0.010, kv_cache_tokens=123_456.0, running_max=64.0)
    found = prior_of(LLAMA_8B, tier("bf16", hint=hint), H100)
    table = prior_of(LLAMA_8B, tier("bf16"), H100)
    assert (found.law.a_s, found.law.kv_cache_tokens, found.law.running_max) == (0.010, 123_456.0, 64.0)
    assert (found.law.b_s, found.law.p1_s) == (table.law.b_s, table.law.p1_s)
    assert found.provenance is Provenance.USER
    assert found.confidence > table.confidence


def test_an_8_bit_cache_is_read_faster() -> None:
    plain = prior_of(LLAMA_8B, tier("bf16", args=()), H100).law
    small = prior_of(LLAMA_8B, tier("bf16", args=("--kv-cache-dtype", "fp8")), H100).law
    assert small.c_s == pytest.approx(0.55 * plain.c_s)
    assert small.a_s == plain.a_s


def test_nothing_known_at_all_is_still_a_law() -> None:
    found = prior_of("chat", tier("large", accelerator="gone"), None)
    assert found.confidence == CONFIDENCE_GUESS
    assert found.provenance is Provenance.ROOFLINE
    assert 1e-3 < found.law.a_s < 1.0


# A quantized tier of the same model decodes one request faster wherever weights are what is read.
@pytest.mark.parametrize("hardware", ["h100", "h200", "a100", "l40s", "l4", "rtx-4090", "a10g"])
def test_fewer_bytes_of_weights_are_read_faster(hardware: str) -> None:
    accelerator = Accelerator(name=hardware, price_usd_per_hour=1.0)
    bf16, int4 = (prior_of(LLAMA_8B, tier(name), accelerator).law for name in ("bf16", "int4"))
    assert int4.a_s < bf16.a_s


@pytest.mark.parametrize("model", ["agent-0b", "agent-0m", "mix-0x7b", "mix-8x0b", "agent-30b-a0b"])
def test_a_size_of_zero_is_none(model: str) -> None:
    h100 = Accelerator(name="h100", price_usd_per_hour=1.0)
    assert prior_of(model, tier("bf16"), h100).law == prior_of("agent", tier("bf16"), h100).law


names = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABQ0123456789-._/", max_size=40)


@given(model=names, name=names, accelerator=names, gpus=st.integers(1, 64), args=st.lists(names, max_size=6))
def test_no_name_is_an_error(model: str, name: str, accelerator: str, gpus: int, args: list[str]) -> None:
    """Any name gives a law with a confidence and usable coefficients."""
    asked = tier(name, gpus=gpus, args=tuple(args))
    found = prior_of(model, asked, Accelerator(name=accelerator, price_usd_per_hour=1.0))
    assert 0.0 <= found.confidence <= 1.0
    law = found.law
    assert all(0.0 <= value < 1e3 for value in (law.a_s, law.b_s, law.c_s, law.p0_s, law.p1_s))
    assert law.a_s > 0
    assert law.kv_cache_tokens >= 1
    assert law.running_max >= 1
