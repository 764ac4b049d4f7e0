"""vLLM's command line: both spellings, aliases, and invalid values."""

import pytest

from tidegate.estimate.arguments import ServeArguments, parse, tensor_parallel

CASES = {
    "a value behind an equals sign": (("--max-num-seqs=64",), {"running_max": 64}),
    "a value in the next argument": (("--max-num-seqs", "64"), {"running_max": 64}),
    "the short name of tensor parallelism": (("-tp", "4"), {"tensor_parallel": 4}),
    "the short name with an equals sign": (("-tp=4",), {"tensor_parallel": 4}),
    "the short name of pipeline parallelism": (("-pp", "2"), {"pipeline_parallel": 2}),
    "engines side by side": (("--data-parallel-size=4",), {"data_parallel": 4}),
    "the short name of engines side by side": (("-dp", "4"), {"data_parallel": 4}),
    "underscores for dashes": (("--max_model_len", "8192"), {"context_max": 8192}),
    "a number of thousands": (("--max-model-len=8k",), {"context_max": 8000}),
    "a number of binary thousands": (("--max-model-len=8K",), {"context_max": 8192}),
    "a part of a thousand": (("--max-model-len", "25.6k"), {"context_max": 25600}),
    "a part that is not exact in binary": (("--max-model-len=1.001k",), {"context_max": 1001}),
    "a number of millions": (("--max-model-len=1m",), {"context_max": 1_000_000}),
    "a number of binary millions": (("--max-model-len=1M",), {"context_max": 1_048_576}),
    "thousands of millions": (("--max-model-len=0.002g",), {"context_max": 2_000_000}),
    "a part of 1024, which vLLM refuses": (("--max-model-len=25.6K",), {}),
    "a part of one": (("--max-model-len=25.6",), {}),
    "a number longer than any": ((f"--max-model-len={'9' * 5000}",), {}),
    "the short name of split contexts": (("-dcp", "4"), {"context_parallel": 4}),
    "the later of two": (("--max-num-seqs=64", "--max-num-seqs=128"), {"running_max": 128}),
    "the model behind serve": (("serve", "org/model", "--dtype", "half"), {"model": "org/model"}),
    "the model as a flag": (("--model", "org/model"), {"model": "org/model"}),
    "a flag without a value before another": (
        ("--enforce-eager", "--quantization", "fp8"),
        {"quantization": "fp8"},
    ),
    "the cache switched off": (("--no-enable-prefix-caching",), {"prefix_caching": False}),
    "a share of memory": (("--gpu-memory-utilization", "0.85"), {"memory_share": 0.85}),
    "tokens per step": (("--max-num-batched-tokens=2048",), {"batched_tokens_max": 2048}),
    "an 8-bit cache": (("--kv-cache-dtype", "fp8_e5m2"), {"kv_cache_dtype": "fp8_e5m2"}),
    "a number that is none": (("--max-num-seqs=many",), {}),
    "a number below zero": (("--max-model-len", "-1", "--max-num-seqs", "64"), {"running_max": 64}),
    "a number below one": (("--max-num-seqs=0",), {}),
    "a share above one": (("--gpu-memory-utilization=90",), {}),
    "a flag at the very end": (("--max-num-seqs",), {}),
    "nothing": ((), {}),
}


@pytest.mark.parametrize(("arguments", "understood"), CASES.values(), ids=CASES.keys())
def test_it_reads(arguments: tuple[str, ...], understood: dict[str, object]) -> None:
    assert parse(arguments) == ServeArguments(**understood)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "parallel"),
    [
        pytest.param((), 8, id="all that there are"),
        pytest.param(("-tp", "2"), 2, id="as stated"),
        pytest.param(("-pp", "2"), 4, id="stages take their share"),
        pytest.param(("-pp", "2", "-dp", "2"), 2, id="engines too"),
        pytest.param(("-pp", "16"), 1, id="never none"),
    ],
)
def test_accelerators_that_share_each_layer(arguments: tuple[str, ...], parallel: int) -> None:
    assert tensor_parallel(parse(arguments), 8) == parallel
