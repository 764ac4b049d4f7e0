"""
Parser for vLLM's command line.

In:    the arguments of a workload, as `--flag=value` or `--flag value`.
Out:   its flags, and the few of them that change the performance law.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

ALIASES = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-q": "--quantization",
}

# vLLM accepts fractions with decimal suffixes (`25.6k`), but not with binary ones.
DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9}
BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArguments:
    """The relevant arguments of `vllm serve`; None: not given, so vLLM's default or the hardware decides."""

    model: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    context_parallel: int | None = None
    running_max: int | None = None
    context_max: int | None = None
    batched_tokens_max: int | None = None
    memory_share: float | None = None
    prefix_caching: bool | None = None


@lru_cache(maxsize=1024)
def parse(arguments: tuple[str, ...]) -> ServeArguments:
    """The relevant arguments; a value that cannot be parsed (`--max-num-seqs=many`) counts as not given."""
    given = flags(arguments)
    off = "--no-enable-prefix-caching" in given
    return ServeArguments(
        model=given.get("--model") or given.get("serve"),
        quantization=given.get("--quantization"),
        kv_cache_dtype=given.get("--kv-cache-dtype"),
        tensor_parallel=_whole(given.get("--tensor-parallel-size")),
        pipeline_parallel=_whole(given.get("--pipeline-parallel-size")),
        data_parallel=_whole(given.get("--data-parallel-size")),
        context_parallel=_whole(given.get("--decode-context-parallel-size")),
        running_max=_whole(given.get("--max-num-seqs")),
        context_max=_whole(given.get("--max-model-len")),
        batched_tokens_max=_whole(given.get("--max-num-batched-tokens")),
        memory_share=_share(given.get("--gpu-memory-utilization")),
        prefix_caching=False if off else None,
    )


def tensor_parallel(arguments: ServeArguments, accelerators: int) -> int:
    """Tensor parallelism: as stated, else the pod's accelerators divided over pipeline stages and engines, >= 1."""
    taken = (arguments.pipeline_parallel or 1) * (arguments.data_parallel or 1)
    return arguments.tensor_parallel or max(1, accelerators // taken)


def flags(arguments: tuple[str, ...]) -> dict[str, str]:
    """Values by flag, under its long name with `-`; empty for a flag without a value. A later one wins, as in vLLM."""
    found: dict[str, str] = {}
    waiting = ""
    for argument in arguments:
        if argument.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", argument):
            flag, _, value = argument.partition("=")
            name = ALIASES.get(flag, flag.replace("_", "-"))
            found[name] = value
            waiting = "" if value else name
        else:
            if waiting:
                found[waiting] = argument
            # `vllm serve MODEL`: the model follows the word `serve`.
            waiting = "serve" if argument == "serve" else ""
    return found


def _whole(text: str | None) -> int | None:
    """A whole number above 0, also in vLLM's short form: `8k` is 8000, `25.6k` is 25600, `8K` is 8192; else None."""
    found = re.fullmatch(r"(\d{1,15})([KMG]?)|(\d{1,15}(?:\.\d{1,15})?)([kmg])", text or "")
    if not found:
        return None
    number = int(found[1]) * BINARY[found[2]] if found[1] else round(float(found[3]) * DECIMAL[found[4]])
    return number if number > 0 else None


def _share(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0.0 < value <= 1.0 else None
