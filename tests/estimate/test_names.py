"""Spellings of model and accelerator names by people and nodes."""

from dataclasses import replace

import pytest

from tests.estimate.build import LLAMA_8B, tier
from tidegate.domain.spec import Accelerator, TierSpec
from tidegate.estimate.hardware import recognise
from tidegate.estimate.models import Precision, shape_of
from tidegate.estimate.roofline import roofline
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
    "openai/gpt-oss-safeguard-20b": "gpt-oss-20b",
    "deepseek-ai/DeepSeek-R1": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3-0324": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3.1-Terminus": "deepseek-v3",
    "nvidia/DeepSeek-R1-0528-FP4-v2": "deepseek-v3",
    "tngtech/DeepSeek-TNG-R1T2-Chimera": "deepseek-v3",
    "acme/deepseek-r1-671b": "deepseek-v3",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "llama-3.1-8b",
    "RedHatAI/DeepSeek-R1-Distill-Llama-70B-quantized.w4a16": "llama-3.1-70b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "qwen2.5-32b",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": "qwen3-8b",
    "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct": "deepseek-v2-lite",
    "microsoft/phi-4": "phi-4",
    "microsoft/Phi-4-reasoning-plus": "phi-4",
    "microsoft/Phi-4-mini-instruct": "phi-4-mini",
    "microsoft/Phi-4-multimodal-instruct": "phi-4-multimodal",
    "microsoft/Phi-3.5-mini-instruct": "phi-3-mini",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": "mistral-small",
    "mistralai/Mistral-Small-Instruct-2409": "mistral-small-2409",
    "mistralai/Mistral-Nemo-Instruct-2407": "mistral-nemo",
    "mistralai/Devstral-Small-2507": "mistral-small",
    "mistralai/Devstral-Small-2-24B-Instruct-2512": "devstral-small-2",
    "mistralai/Mistral-Large-Instruct-2411": "mistral-large",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
    "RedHatAI/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
    "moonshotai/Kimi-K2-Instruct-0905": "kimi-k2",
    "moonshotai/Kimi-K2-Thinking": "kimi-k2-int4",
    "zai-org/GLM-4.5-Air-FP8": "glm-4.5-air",
    "zai-org/GLM-4.6": "glm-4.5",
    "zai-org/GLM-4.7-Flash": "glm-4.7-flash",
    "zai-org/GLM-5": "glm-5",
    "zai-org/GLM-5.2-FP8": "glm-5",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-30b-a3b",
    "Qwen/Qwen3-VL-235B-A22B-Instruct-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-VL-32B-Instruct": "qwen3-32b",
    "Qwen/Qwen3-Embedding-0.6B": "qwen3-0.6b",
    "Qwen/Qwen3-Next-80B-A3B-Instruct": "qwen3-next",
    "Qwen/Qwen3-Coder-Next-FP8": "qwen3-next",
    "unsloth/Qwen3.5-35B-A3B": "qwen3.5-35b-a3b",
    "cyankiwi/Qwen3.6-35B-A3B-AWQ-4bit": "qwen3.5-35b-a3b",
    "nvidia/Qwen3.5-397B-A17B-NVFP4": "qwen3.5-397b-a17b",
    "Qwen/Qwen3.8-27B-FP8": "qwen3.5-27b",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2.5-7b",
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": "qwen2.5-1.5b",
    "deepseek-ai/DeepSeek-V4-Flash-0731": "deepseek-v4-flash",
    "nvidia/DeepSeek-V4-Pro-NVFP4": "deepseek-v4-pro",
    "moonshotai/Kimi-K3": "kimi-k3",
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": "kimi-linear",
    "MiniMaxAI/MiniMax-M3-MXFP8": "minimax-m3",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8": "nemotron-3-nano",
    "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-NVFP4": "nemotron-3-nano",
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16": "nemotron-3-nano",
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": "nemotron-3-super",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": "nemotron-nano-9b-v2",
    "ibm-granite/granite-4.0-h-small-FP8": "granite-4.0-h-small",
    "ibm-granite/granite-4.0-micro": "granite-4.0-micro",
    "mistralai/Mistral-Small-4-119B-2603": "mistral-small-4",
    "mistralai/Mistral-Medium-3.5-128B": "mistral-medium-3.5",
    "allenai/Olmo-3-7B-Instruct": "olmo-3-7b",
    "tencent/Hunyuan-A13B-Instruct-GPTQ-Int4": "hunyuan-a13b",
    "tencent/Hy3-preview": "hy3",
    "stepfun-ai/Step-3.5-Flash-FP8": "step-3.7-flash",
    "XiaomiMiMo/MiMo-V2.5": "mimo-v2-flash",
    "/models/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "/models/Llama-3.1-8B-Instruct/": "llama-3.1-8b",
    "s3://bucket/models/Llama-3.3-70B-Instruct/": "llama-3.1-70b",
    "/models/mixtral-8x7b/final": "mixtral-8x7b",
    "/hub/models--meta-llama--Llama-3.3-70B-Instruct/snapshots/6f6073b423013f6a7d4d9f39144961bfbfbc386b": (
        "llama-3.1-70b"
    ),
}


@pytest.mark.parametrize(("repository", "name"), MODELS.items(), ids=MODELS.keys())
def test_a_model_is_known_by_its_repository(repository: str, name: str) -> None:
    assert shape_of(repository).name == name


SIZES = {
    "acme/Assistant-13B-v2": (13e9, 13e9),
    "acme/moe-57B-A14B-chat": (57e9, 14e9),
    "acme/tiny-500M": (500e6, 500e6),
    "nvidia/Mistral-NeMo-Minitron-8B-Instruct": (8e9, 8e9),
    "acme/DeepSeek-R1-Merge-14B": (14e9, 14e9),
    "acme/Phi-4-Tiny-1B": (1e9, 1e9),
    "mistralai/Mistral-Small-5-119B": (119e9, 119e9),
    "acme/Qwen3.5-13B-merge": (13e9, 13e9),
    "Qwen/Qwen3.8-2.4T-A95B-FP8": (2.4e12, 95e9),
    "ibm-granite/granite-3.1-3b-a800m-instruct": (3e9, 800e6),
    "s3://bucket/assistant-13b/checkpoint-900/": (13e9, 13e9),
}


@pytest.mark.parametrize(("repository", "sizes"), SIZES.items(), ids=SIZES.keys())
def test_an_unknown_model_has_the_size_its_name_states(repository: str, sizes: tuple[float, float]) -> None:
    shape = shape_of(repository)
    assert (shape.params, shape.params_active) == sizes
    assert shape.known


def test_experts_share_their_attention() -> None:
    assert shape_of("acme/8x7B-experts").params == pytest.approx(46.7e9, rel=0.02)


def test_a_mixture_has_the_layers_of_its_active_size() -> None:
    found, dense = shape_of("acme/moe-300B-A47B"), shape_of("acme/Assistant-47B")
    assert found.kv_bytes == dense.kv_bytes


@pytest.mark.parametrize(
    "name", ["chat-large", "deepseek-r1-distill", "glm-5.3-flash", "mimo-v2.5-pro", "", "/", "/models/"]
)
def test_a_name_that_states_nothing_is_a_guess_and_says_so(name: str) -> None:
    assert not shape_of(name).known


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
    ("gpu-pool-1", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"): "a100-1g",
}


@pytest.mark.parametrize(("label", "name"), ACCELERATORS.items(), ids=str)
def test_an_accelerator_is_known_by_its_product_or_its_class(label: tuple[str, str], name: str) -> None:
    found = recognise(Accelerator(name=label[0], price_usd_per_hour=1.0, product=label[1]))
    assert found.name == name
    assert found.bandwidth > 0


LABELS = {
    "Tesla-V100-SXM2-16GB": 16,
    "Tesla-V100-SXM2-32GB": 32,
    "Tesla-V100-SXM3-32GB": 32,
    "nvidia-tesla-v100": 16,
    "nvidia-tesla-a100": 40,
    "nvidia-a100-80gb": 80,
    "NVIDIA-A100-SXM4-40GB": 40,
    "NVIDIA-A100-SXM-64GB": 64,
    "nvidia-h100-mega-80gb": 80,
    "nvidia-h200-141gb": 141,
    "NVIDIA-GH200-480GB": 96,  # what the label states is the memory of the processor
    "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb": 5,
    "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb": 40,
    "NVIDIA-A100-SXM4-80GB-MIG-1g.20gb.me": 20,
    "a100-40gb-2g.10gb": 10,
}


@pytest.mark.parametrize(("label", "gib"), LABELS.items(), ids=LABELS.keys())
def test_memory_is_what_the_label_says(label: str, gib: float) -> None:
    for name, product in ((label, ""), ("gpu-pool-1", label)):
        found = recognise(Accelerator(name=name, price_usd_per_hour=1.0, product=product))
        assert found.known
        assert found.memory_bytes == gib * GIB


@pytest.mark.parametrize(
    ("board", "part", "compute", "memory"),
    [
        pytest.param("NVIDIA-A100-SXM4-40GB", "1g.5gb", 1 / 7, 1 / 8, id="a seventh of an A100"),
        pytest.param("NVIDIA-H100-80GB-HBM3", "3g.40gb", 3 / 7, 1 / 2, id="three sevenths and half of the memory"),
        pytest.param("NVIDIA-H100-80GB-HBM3", "7g.80gb", 1.0, 1.0, id="all of it"),
        pytest.param("NVIDIA-A30", "2g.12gb", 1 / 2, 1 / 2, id="an A30 has four parts"),
    ],
)
def test_a_part_of_a_board_has_a_part_of_its_speed(board: str, part: str, compute: float, memory: float) -> None:
    whole, found = (
        recognise(Accelerator(name="gpu", price_usd_per_hour=1.0, product=p)) for p in (board, f"{board}-MIG-{part}")
    )
    assert found.flops_bf16 == pytest.approx(compute * whole.flops_bf16)
    assert found.bandwidth == pytest.approx(memory * whole.bandwidth)
    assert whole.draw_w is not None
    assert found.draw_w == pytest.approx((compute * whole.draw_w[0], compute * whole.draw_w[1]))


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
    "a method leaves the bits to the repository": (
        tier("x", args=("--quantization", "gptq_marlin"), model="org/Llama-3.1-8B-GPTQ-Int8"),
        "int8",
    ),
    "a method that makes several formats": (
        tier("x", args=("--quantization", "modelopt"), model="nvidia/Llama-3.1-8B-NVFP4"),
        "nvfp4",
    ),
    "a method leaves the bits to the tier's name": (tier("int8", args=("--quantization", "gptq")), "int8"),
    "a method that quantizes while it loads": (
        tier("x", args=("--quantization", "bitsandbytes"), model="org/Llama-3.1-8B-BF16"),
        "int4",
    ),
    "an argument that states bits wins over a repository of others": (
        tier("x", args=("--quantization", "mxfp8"), model="org/Llama-3.1-8B-NVFP4"),
        "fp8",
    ),
    "the tier's name where nothing else speaks": (tier("int4"), "int4"),
    "the repository over the tier's name where we build the workload": (tier("int4", model="org/L-8B-FP8"), "fp8"),
    "the data type": (tier("large", args=("--dtype", "bfloat16")), "bf16"),
    "nothing at all": (tier("large"), "bf16"),
    "nvfp4": (tier("nvfp4"), "nvfp4"),
    "what a model is published in": (tier("large", model="openai/gpt-oss-120b"), "nvfp4"),
    "what a model is published in, whatever is computed in": (
        tier("large", args=("--dtype", "bfloat16"), model="openai/gpt-oss-20b"),
        "nvfp4",
    ),
    "a model published in 8 bits": (tier("large", model="deepseek-ai/DeepSeek-V3.1"), "fp8"),
    "experts published in 4 bits": (tier("large", model="deepseek-ai/DeepSeek-V4-Flash"), "nvfp4"),
    "a repository with more bits than the model is published in": (
        tier("large", model="sgl-project/DeepSeek-V4-Flash-FP8"),
        "fp8",
    ),
    "a newer model published in 8 bits": (tier("large", model="mistralai/Mistral-Medium-3.5-128B"), "fp8"),
    "a repository that quantizes it further": (tier("large", model="nvidia/DeepSeek-R1-FP4"), "nvfp4"),
    "a repository that does not quantize it": (tier("large", model="unsloth/gpt-oss-20b-BF16"), "bf16"),
    "what was distilled from it": (tier("large", model="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), "bf16"),
}


@pytest.mark.parametrize(("asked", "precision"), PRECISIONS.values(), ids=PRECISIONS.keys())
def test_precision(asked: object, precision: str) -> None:
    assert serving_of(LLAMA_8B, asked, None).precision == Precision(precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        pytest.param(tier(args=("--model", "Qwen/Qwen3-32B")), "qwen3-32b", id="as a flag"),
        pytest.param(tier(args=("serve", "Qwen/Qwen3-32B")), "qwen3-32b", id="behind serve"),
        pytest.param(
            tier(args=("--model", "Qwen/Qwen3-32B"), model="org/x"),
            "qwen3-32b",
            id="the flag first, as vLLM is started",
        ),
        pytest.param(tier(args=("--model", "/models/x")), "llama-3.1-8b", id="a folder that says nothing"),
        pytest.param(tier(args=()), "llama-3.1-8b", id="what clients ask for"),
    ],
)
def test_the_model_is_the_one_that_is_loaded(asked: TierSpec, name: str) -> None:
    assert serving_of(LLAMA_8B, asked, None).shape.name == name


@pytest.mark.parametrize(
    ("product", "tokens"),
    [("NVIDIA-H100-80GB-HBM3", 8192), ("NVIDIA-A100-SXM4-80GB", 2048), ("NVIDIA-L4", 2048)],
    ids=["large", "A100", "small"],
)
def test_a_step_takes_as_many_tokens_as_vllm_does_by_itself(product: str, tokens: int) -> None:
    board = Accelerator(name="gpu", price_usd_per_hour=1.0, product=product)
    assert serving_of(LLAMA_8B, tier(), board).batched_tokens_max == tokens
    stated = tier(args=("--max-num-batched-tokens", "4096"))
    assert serving_of(LLAMA_8B, stated, board).batched_tokens_max == 4096


@pytest.mark.parametrize(
    ("product", "args", "running"),
    [
        pytest.param("NVIDIA-H100-80GB-HBM3", (), 1024, id="large"),
        pytest.param("NVIDIA-A100-SXM4-80GB", (), 256, id="A100"),
        pytest.param("NVIDIA-L4", (), 256, id="small"),
        pytest.param("board-of-the-year", (), 256, id="unknown: it may be an A100"),
        pytest.param("NVIDIA-H100-80GB-HBM3", ("--max-num-batched-tokens=512",), 512, id="each takes a token per step"),
        pytest.param("NVIDIA-L4", ("--max-num-seqs=2000",), 2000, id="as stated"),
        pytest.param("NVIDIA-H100-80GB-HBM3", None, 256, id="arguments of a target are not known"),
    ],
)
def test_as_many_requests_run_as_vllm_lets_by_itself(product: str, args: tuple[str, ...] | None, running: int) -> None:
    board = Accelerator(name="gpu", price_usd_per_hour=1.0, product=product)
    assert serving_of(LLAMA_8B, tier(args=args), board).running_max == running


def test_parallelism_is_what_the_arguments_say_else_the_accelerators_of_the_replica() -> None:
    assert serving_of(LLAMA_8B, tier(gpus=4), None).tensor_parallel == 4
    assert serving_of(LLAMA_8B, tier(gpus=4, args=("-tp", "2")), None).tensor_parallel == 2
    assert serving_of(LLAMA_8B, tier(gpus=4, args=("-pp", "2")), None).tensor_parallel == 2


@pytest.mark.parametrize(
    ("args", "parallel"),
    [
        pytest.param((), (8, 1, 1), id="one engine on all"),
        pytest.param(("-dp", "4"), (2, 1, 4), id="four engines share them"),
        pytest.param(("-dp", "2", "-pp", "2"), (2, 2, 2), id="with stages"),
        pytest.param(("-tp", "2", "--data-parallel-size=4"), (2, 1, 4), id="all of it stated"),
        pytest.param(("-tp", "4", "-dp", "16"), (4, 1, 2), id="no more engines than there is room for"),
        pytest.param(("-dp", "16"), (1, 1, 8), id="no more engines than accelerators"),
    ],
)
def test_engines_side_by_side_share_the_accelerators(args: tuple[str, ...], parallel: tuple[int, int, int]) -> None:
    found = serving_of(LLAMA_8B, tier(gpus=8, args=args), None)
    assert (found.tensor_parallel, found.pipeline_parallel, found.data_parallel) == parallel


def test_engines_hold_a_dense_model_each_but_share_the_experts_of_a_mixture() -> None:
    for model, shared in ((LLAMA_8B, 1), ("openai/gpt-oss-120b", 4)):
        one, four = (serving_of(model, tier(gpus=4, args=("-tp", "1", "-dp", str(n))), H100) for n in (1, 4))
        assert four.weight_bytes == pytest.approx(one.weight_bytes / shared)
        assert four.kv_cache_tokens >= one.kv_cache_tokens


H100 = Accelerator(name="h100", price_usd_per_hour=1.0)
H200 = Accelerator(name="h200", price_usd_per_hour=1.0)
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


@pytest.mark.parametrize(
    ("model", "args", "copies"),
    [
        pytest.param("deepseek-ai/DeepSeek-V3.1", ("-tp", "8"), 8.0, id="a latent lies whole on each accelerator"),
        pytest.param("deepseek-ai/DeepSeek-V3.1", ("-tp", "1", "-dp", "8"), 1.0, id="and once in each engine"),
        pytest.param("deepseek-ai/DeepSeek-V3.1", ("-tp", "8", "-dcp", "4"), 2.0, id="contexts are split instead"),
        pytest.param("deepseek-ai/DeepSeek-V3.1", ("-tp", "4", "-dcp", "8"), 1.0, id="never less than once"),
        pytest.param("Qwen/Qwen3-235B-A22B", ("-tp", "8"), 2.0, id="fewer heads than accelerators"),
        pytest.param("google/gemma-3-27b-it", ("-tp", "8"), 1.0, id="more heads than accelerators"),
        pytest.param("acme/Assistant-13B", ("-tp", "8"), 1.0, id="known by its size only"),
    ],
)
def test_a_cache_that_cannot_be_split_is_held_more_than_once(model: str, args: tuple[str, ...], copies: float) -> None:
    found = serving_of(model, tier("fp8", gpus=8, args=args), H200)
    assert found.kv_copies == copies
    whole = replace(found, shape=replace(found.shape, kv_heads=128))
    assert found.kv_cache_tokens == pytest.approx(whole.kv_cache_tokens / copies)
    assert roofline(found).c_s == pytest.approx(copies * roofline(whole).c_s)


@pytest.mark.parametrize(
    ("model", "layers", "heads", "width"),
    [
        pytest.param("google/gemma-3-12b-it", 48, 8, 256, id="gemma-3-12b"),
        pytest.param("google/gemma-3-27b-it", 62, 16, 128, id="gemma-3-27b"),
        pytest.param("microsoft/phi-4", 40, 10, 128, id="phi-4"),
        pytest.param("MiniMaxAI/MiniMax-M3", 60, 4, 128, id="minimax-m3"),
        pytest.param("allenai/Olmo-3-7B-Instruct", 32, 32, 128, id="olmo-3-7b"),
        pytest.param("tencent/Hy3", 80, 8, 128, id="hy3"),
        pytest.param("Qwen/Qwen3-0.6B", 28, 8, 128, id="qwen3-0.6b"),
        pytest.param("Qwen/Qwen2.5-0.5B", 24, 2, 64, id="qwen2.5-0.5b"),
        pytest.param("Qwen/Qwen2.5-3B", 36, 2, 128, id="qwen2.5-3b"),
        pytest.param("ibm-granite/granite-4.0-micro", 40, 8, 64, id="granite-4.0-micro"),
        pytest.param("Qwen/Qwen3-Next-80B-A3B-Instruct", 12, 2, 256, id="12 of 48"),
        pytest.param("Qwen/Qwen3.5-0.8B", 6, 2, 256, id="6 of 24"),
        pytest.param("Qwen/Qwen3.5-4B", 8, 4, 256, id="8 of 32"),
        pytest.param("Qwen/Qwen3.5-9B", 8, 4, 256, id="8 of 32, larger"),
        pytest.param("Qwen/Qwen3.6-27B", 16, 4, 256, id="16 of 64"),
        pytest.param("Qwen/Qwen3.6-35B-A3B", 10, 2, 256, id="10 of 40"),
        pytest.param("Qwen/Qwen3.5-122B-A10B", 12, 2, 256, id="12 of 48, larger"),
        pytest.param("Qwen/Qwen3.5-397B-A17B", 15, 2, 256, id="15 of 60"),
        pytest.param("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 6, 2, 128, id="6 of 52"),
        pytest.param("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", 8, 2, 128, id="8 of 88"),
        pytest.param("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 12, 2, 128, id="12 of 108"),
        pytest.param("nvidia/NVIDIA-Nemotron-Nano-9B-v2", 4, 8, 128, id="4 of 56"),
        pytest.param("nvidia/NVIDIA-Nemotron-Nano-12B-v2", 6, 8, 128, id="6 of 62"),
        pytest.param("ibm-granite/granite-4.0-h-small", 4, 8, 128, id="4 of 40"),
        pytest.param("ibm-granite/granite-4.0-h-tiny", 4, 4, 128, id="4 of 40, smaller"),
        pytest.param("stepfun-ai/Step-3.7-Flash", 12, 8, 128, id="12 of 45, the others have a window of 512 tokens"),
        pytest.param("openai/gpt-oss-20b", 12, 8, 64, id="12 of 24, the others one of 128 tokens"),
        pytest.param("openai/gpt-oss-120b", 18, 8, 64, id="18 of 36, the others one of 128 tokens"),
        pytest.param("XiaomiMiMo/MiMo-V2-Flash", 9, 4, (192 + 128) / 2, id="9 of 48, the others one of 128 tokens"),
    ],
)
def test_a_token_of_context_is_a_key_and_a_value_of_each_head_and_layer_of_full_attention(
    model: str, layers: int, heads: int, width: float
) -> None:
    found = shape_of(model)
    assert (found.kv_heads, found.kv_bytes) == (heads, 2 * 2 * layers * heads * width)


@pytest.mark.parametrize(
    ("model", "layers", "width"),
    [
        pytest.param("deepseek-ai/DeepSeek-V3.2", 61, 512 + 64, id="deepseek-v3"),
        pytest.param("zai-org/GLM-5.1", 78, 512 + 64, id="glm-5"),
        pytest.param("zai-org/GLM-4.7-Flash", 47, 512 + 64, id="glm-4.7-flash"),
        pytest.param("mistralai/Mistral-Small-4-119B-2603", 36, 256 + 64, id="mistral-small-4"),
        pytest.param("moonshotai/Kimi-Linear-48B-A3B-Instruct", 7, 512 + 64, id="kimi-linear: 7 of 27"),
        pytest.param("moonshotai/Kimi-K3", 24, 512 + 64, id="kimi-k3: 24 of 93"),
    ],
)
def test_a_latent_is_held_once_for_all_heads(model: str, layers: float, width: int) -> None:
    found = shape_of(model)
    assert (found.kv_heads, found.kv_bytes) == (1, 2 * layers * width)


@pytest.mark.parametrize(
    ("model", "fours", "others"),
    [
        pytest.param("deepseek-ai/DeepSeek-V4-Flash", 21, 20, id="deepseek-v4-flash"),
        pytest.param("deepseek-ai/DeepSeek-V4-Pro", 30, 31, id="deepseek-v4-pro"),
    ],
)
def test_a_latent_may_stand_for_several_tokens(model: str, fours: int, others: int) -> None:
    """Some layers of DeepSeek V4 hold a latent and a key to find it by for 4 tokens, the others a latent for 128."""
    found = shape_of(model)
    assert (found.kv_heads, found.kv_bytes) == (1, 2 * (fours * (512 + 128) / 4 + others * 512 / 128))
