"""
Parse vLLM's command line, as far as it affects an emulated server.

A pod's container arguments work unchanged. Arguments without effect are listed in `Options.ignored` and logged by the
server; none is silently ignored.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.errors import SpecError

# Words that precede the arguments in an image's entry point or a pod's command.
LAUNCHERS = ("vllm", "serve", "python", "python3", "-m", "vllm.entrypoints.openai.api_server")

BUCKET_FAMILIES = ("time_to_first_token", "inter_token_latency", "request_latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    The parsed arguments.

    Args:
        served_names: Model names that clients may request; metrics use the first.
        seqs: Most running requests; None: as many as the law allows.
        model_len: Longest request, tokens; None: as much as fits.
        queued_reqs, queued_tokens: Admission limits; None: no limit.
        shutdown_timeout_s: How long SIGTERM waits for running requests; 0: not at all.
        buckets: Custom histogram edges by family.
        ignored: Arguments without effect.
    """

    model: str
    served_names: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    seqs: int | None = None
    batched_tokens: int = 8192
    block_tokens: int = 16
    blocks_override: int | None = None
    model_len: int | None = None
    prefix_caching: bool = True
    queued_reqs: int | None = None
    queued_tokens: int | None = None
    shutdown_timeout_s: float = 0.0
    per_request_metrics: bool = False
    load_tracking: bool = False
    dev_mode: bool = False
    api_keys: tuple[str, ...] = ()
    buckets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def seqs_within(self, running_max: float) -> int:
        """Most running requests, if the hardware allows `running_max`."""
        return int(running_max if self.seqs is None else min(self.seqs, running_max))


def parse(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Options:
    """
    Parse a container's command and arguments.

    Args:
        arguments: Command and args of the container, with or without launcher words.
        env: Its environment; `VLLM_SERVER_DEV_MODE=1` enables the sleep endpoints, `VLLM_API_KEY` requires a key.

    Raises:
        SpecError: An argument has no value or an invalid one, so that vLLM would exit at once.
    """
    env = env or {}
    found, rest = _parser().parse_known_args(_without_launcher(_unwrapped(arguments)))
    model = found.model_tag or found.model
    keys = tuple(found.api_key or ()) + ((env["VLLM_API_KEY"],) if env.get("VLLM_API_KEY") else ())
    return Options(
        model=model,
        served_names=tuple(found.served_model_name or (model,)),
        host=found.host,
        port=found.port,
        quantization=found.quantization,
        kv_cache_dtype=found.kv_cache_dtype,
        seqs=found.max_num_seqs,
        batched_tokens=found.max_num_batched_tokens,
        block_tokens=found.block_size,
        blocks_override=found.num_gpu_blocks_override,
        model_len=found.max_model_len,
        prefix_caching=found.enable_prefix_caching,
        queued_reqs=found.max_num_queued_reqs,
        queued_tokens=found.max_num_queued_tokens,
        shutdown_timeout_s=found.shutdown_timeout,
        per_request_metrics=found.enable_per_request_metrics,
        load_tracking=found.enable_server_load_tracking,
        dev_mode=env.get("VLLM_SERVER_DEV_MODE") == "1",
        api_keys=keys,
        buckets=_buckets(found.custom_histogram_buckets),
        ignored=tuple(rest),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise SpecError(field="args", value=None, allowed=message)


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model", default="Qwen/Qwen3-0.6B")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    # Parallelism takes effect through the law; `kubelet.hardware` parses it again.
    parser.add_argument("--tensor-parallel-size", "-tp", type=_positive, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=_positive, default=1)
    parser.add_argument("--quantization", "-q")
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--max-num-seqs", type=_positive)
    parser.add_argument("--max-num-batched-tokens", type=_positive, default=8192)
    parser.add_argument("--block-size", type=_positive, default=16)
    parser.add_argument("--num-gpu-blocks-override", type=_positive)
    parser.add_argument("--max-model-len", type=_tokens)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--max-num-queued-reqs", type=_positive)
    parser.add_argument("--max-num-queued-tokens", type=_positive)
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    parser.add_argument("--enable-per-request-metrics", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--enable-server-load-tracking", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--custom-histogram-buckets")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _tokens(text: str) -> int:
    """vLLM's human-readable integers: 8192, 8k (thousands), 8K (1024s)."""
    factors = {"k": 1000, "K": 1024, "m": 10**6, "M": 2**20}
    return _positive(str(int(float(text[:-1]) * factors[text[-1]]))) if text[-1:] in factors else _positive(text)


def _unwrapped(arguments: Sequence[str]) -> list[str]:
    """The words inside `sh -c "..."` if the command is one."""
    words = list(arguments)
    if len(words) >= 3 and words[0].rsplit("/", 1)[-1] in ("sh", "bash") and words[1] in ("-c", "-ec"):
        words = [word for word in shlex.split(words[2]) if word != "exec"]
    return words


def _without_launcher(words: list[str]) -> list[str]:
    while words and words[0].rsplit("/", 1)[-1] in LAUNCHERS:
        words = words[1:]
    return [_dashed(word) for word in words]


def _dashed(word: str) -> str:
    """Replace underscores in an argument's name by dashes, as vLLM does."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _buckets(text: str | None) -> dict[str, tuple[float, ...]]:
    if text is None:
        return {}
    allowed = f"must be a JSON object of increasing bucket edges with keys {', '.join(BUCKET_FAMILIES)}"
    try:
        found = {family: tuple(float(edge) for edge in edges) for family, edges in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as wrong:
        raise SpecError(field="--custom-histogram-buckets", value=text, allowed=allowed) from wrong
    if not set(found) <= set(BUCKET_FAMILIES) or any(list(e) != sorted(set(e)) or not e for e in found.values()):
        raise SpecError(field="--custom-histogram-buckets", value=text, allowed=allowed)
    return found
