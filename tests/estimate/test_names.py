"""Models and accelerators as people and nodes write their names."""

import pytest

from tests.estimate.build import LLAMA_8B, tier
from tidegate.domain.spec import Accelerator
from tidegate.estimate.hardware import recognise
from tidegate.estimate.models import Precision, shape_of
from tidegate.estimate.serving import serving_of
from tidegate.units import GIB

MODELS = {
    "meta-llama/Llama-3.1-8B": "llama-3.1-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama-3.1-8b",
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16": "llama-3.1-8b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.1-70b",
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": "llama-3.1-70b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-32B-AWQ": "qwen3-32b",
    "meta-llama/Llama-3.2-1B-Instruct": "llama-3.2-1b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
}


@pytest.mark.parametrize(("repository", "name"), MODELS.items(), ids=MODELS.keys())
def test_a_model_is_known_by_its_repository(repository: str, name: str) -> None:
    assert shape_of(repository).name == name


SIZES = {
    "acme/Assistant-13B-v2": (13e9, 13e9),
    "acme/moe-57B-A14B-chat": (57e9, 14e9),
    "acme/tiny-500M": (500e6, 500e6),
}


@pytest.mark.parametrize(("repository", "sizes"), SIZES.items(), ids=SIZES.keys())
def test_an_unknown_model_has_the_size_its_name_states(repository: str, sizes: tuple[float, float]) -> None:
    shape = shape_of(repository)
    assert (shape.params, shape.params_active) == sizes
    assert shape.known


def test_experts_share_their_attention() -> None:
    assert shape_of("acme/8x7B-experts").params == pytest.approx(46.7e9, rel=0.02)


def test_a_name_that_states_nothing_is_a_guess_and_says_so() -> None:
    assert not shape_of("chat-large").known


ACCELERATORS = {
    ("nvidia-h100", ""): "h100",
    ("h100", ""): "h100",
    ("gpu-pool-1", "NVIDIA-H100-80GB-HBM3"): "h100",
    ("gpu-pool-1", "NVIDIA-H100-PCIe"): "h100-pcie",
    ("gpu-pool-1", "NVIDIA-A100-SXM4-40GB"): "a100-40gb",
    ("gpu-pool-1", "NVIDIA-A100-SXM4-80GB"): "a100",
    ("gpu-pool-1", "NVIDIA-GeForce-RTX-4090"): "rtx-4090",
    ("gpu-pool-1", "NVIDIA-L40S"): "l40s",
    ("h100-spot", ""): "h100",
    ("amd-mi300x", ""): "mi300x",
    ("gpu-pool-1", ""): "",
    ("h1000", ""): "",
}


@pytest.mark.parametrize(("label", "name"), ACCELERATORS.items(), ids=str)
def test_an_accelerator_is_known_by_its_product_or_its_class(label: tuple[str, str], name: str) -> None:
    found = recognise(Accelerator(name=label[0], price_usd_per_hour=1.0, product=label[1]))
    assert found.name == name
    assert found.bandwidth > 0


def test_what_the_class_states_of_its_memory_wins() -> None:
    found = recognise(Accelerator(name="nvidia-h100", price_usd_per_hour=1.0, memory_gib=64.0))
    assert found.memory_bytes == 64 * GIB


def test_the_board_power_that_the_class_states_scales_the_draw_unless_the_draw_was_measured() -> None:
    stated = recognise(Accelerator(name="l40s", price_usd_per_hour=1.0, board_power_w=300.0))
    assert stated.draw_w == pytest.approx((129.0, 258.0))
    measured = recognise(Accelerator(name="h100", price_usd_per_hour=1.0, board_power_w=500.0))
    assert measured.draw_w == (300.0, 600.0)


PRECISIONS = {
    "the argument wins over the repository": (tier("x", args=("--quantization=fp8",), model="org/M-8B-AWQ"), "fp8"),
    "a method is a precision": (tier("x", args=("-q", "awq_marlin")), "int4"),
    "a repository of fp8 weights": (tier("x", model="RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"), "fp8"),
    "a repository of 4-bit weights": (tier("x", model="RedHatAI/Llama-3.1-8B-Instruct-quantized.w4a16"), "int4"),
    "a repository of 8-bit GPTQ weights": (tier("x", model="org/Llama-3.1-8B-GPTQ-Int8"), "int8"),
    "a method that says nothing leaves it to the repository": (
        tier("x", args=("--quantization", "compressed-tensors"), model="org/Llama-3.1-8B-w8a8"),
        "int8",
    ),
    "the tier's name where nothing else speaks": (tier("int4"), "int4"),
    "the repository over the tier's name where we build the workload": (tier("int4", model="org/L-8B-FP8"), "fp8"),
    "the data type": (tier("large", args=("--dtype", "bfloat16")), "bf16"),
    "nothing at all": (tier("large"), "bf16"),
    "nvfp4": (tier("nvfp4"), "nvfp4"),
}


@pytest.mark.parametrize(("asked", "precision"), PRECISIONS.values(), ids=PRECISIONS.keys())
def test_precision(asked: object, precision: str) -> None:
    assert serving_of(LLAMA_8B, asked, None).precision == Precision(precision)  # type: ignore[arg-type]


def test_parallelism_is_what_the_arguments_say_else_the_accelerators_of_the_replica() -> None:
    assert serving_of(LLAMA_8B, tier(gpus=4), None).tensor_parallel == 4
    assert serving_of(LLAMA_8B, tier(gpus=4, args=("-tp", "2")), None).tensor_parallel == 2
    assert serving_of(LLAMA_8B, tier(gpus=4, args=("-pp", "2")), None).tensor_parallel == 2


H100 = Accelerator(name="h100", price_usd_per_hour=1.0)
MEMORY = {
    # Tokens of KV room: published figures for H100 at 0.92 of its memory, and what vLLM printed on an RTX 4090.
    "8B bf16 on one H100": (LLAMA_8B, tier("bf16"), H100, 448_000),
    "8B fp8 on one H100": (LLAMA_8B, tier("fp8"), H100, 501_000),
    "32B fp8 on one H100": ("Qwen/Qwen3-32B", tier("fp8"), H100, 154_000),
    "70B fp8 on two H100": ("meta-llama/Llama-3.1-70B", tier("fp8", gpus=2), H100, 234_000),
    "70B bf16 on four H100": ("meta-llama/Llama-3.1-70B", tier("bf16", gpus=4), H100, 482_000),
    "8B on an RTX 4090 at 0.9": (
        LLAMA_8B,
        tier("bf16", args=("--gpu-memory-utilization=0.9",)),
        Accelerator(name="rtx-4090", price_usd_per_hour=1.0),
        41_408,
    ),
}


@pytest.mark.parametrize(("model", "asked", "accelerator", "tokens"), MEMORY.values(), ids=MEMORY.keys())
def test_kv_memory_is_within_a_tenth_of_what_was_seen(
    model: str, asked: object, accelerator: Accelerator, tokens: float
) -> None:
    found = serving_of(model, asked, accelerator).kv_cache_tokens  # type: ignore[arg-type]
    assert found == pytest.approx(tokens, rel=0.12)


def test_an_8_bit_cache_holds_twice_the_context() -> None:
    plain = serving_of(LLAMA_8B, tier(args=()), H100)
    small = serving_of(LLAMA_8B, tier(args=("--kv-cache-dtype=fp8",)), H100)
    assert small.kv_cache_tokens == pytest.approx(2 * plain.kv_cache_tokens)
