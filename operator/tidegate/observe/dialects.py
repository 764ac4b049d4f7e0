"""
One table of metric names: our name for a signal, and what each server and version calls it.

In:    nothing.
Out:   for each signal the names to try, newest first; a pod exports one of them.
Rules: a new server or version is a new name in a row, never a new branch elsewhere.

Source:
    vLLM 0.6 to 0.32 (`vllm/v1/metrics/loggers.py` and the V0 engine's `metrics.py`; `/metrics` of a running 0.32).
    SGLang `python/sglang/srt/metrics/collector.py`, later `srt/observability/metrics_collector.py`.
    NVIDIA dcgm-exporter `etc/dcp-metrics-included.csv`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    """How a signal becomes one number per pod."""

    SUM = "sum"  # a gauge, summed over the engines of a pod
    MEAN = "avg"  # a gauge, averaged over them
    MAX = "max"
    RATE = "rate"  # a counter: per second over the window
    DELTA = "delta"  # a gauge: change over the window


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """
    One number per pod.

    Args:
        name: Our name.
        shape: How it is read.
        metrics: Selectors to try, newest name first. Braces may hold fixed matchers.
        scale: Factor that converts the metric to our unit.
    """

    name: str
    shape: Shape
    metrics: tuple[str, ...]
    scale: float = 1.0


# With priority scheduling SGLang exports each number in total, and again for each priority.
WAITING = ("vllm:num_requests_waiting", 'sglang:num_queue_reqs{priority=""}')
RUNNING = ("vllm:num_requests_running", 'sglang:num_running_reqs{priority=""}')

# Older names: `gpu_*` until vLLM 0.10, `time_per_output_token` until 0.11.
NOW = (
    Signal(name="running", shape=Shape.SUM, metrics=RUNNING),
    Signal(name="waiting", shape=Shape.SUM, metrics=WAITING),
    Signal(
        name="kv_usage",
        shape=Shape.MEAN,
        metrics=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
    ),
    # A sleeping engine answers /health, accepts requests and reports none waiting.
    Signal(name="asleep", shape=Shape.MAX, metrics=('vllm:engine_sleep_state{sleep_state!="awake"}',)),
)

FLOW = (
    # First tokens: requests that reached the engine. `waiting_growth` adds those still queued.
    Signal(
        name="started",
        shape=Shape.RATE,
        metrics=("vllm:time_to_first_token_seconds_count", "sglang:time_to_first_token_seconds_count"),
    ),
    Signal(
        name="ttft_sum",
        shape=Shape.RATE,
        metrics=("vllm:time_to_first_token_seconds_sum", "sglang:time_to_first_token_seconds_sum"),
    ),
    Signal(
        name="finished",
        shape=Shape.RATE,
        metrics=(
            "vllm:e2e_request_latency_seconds_count",
            'vllm:request_success_total{finished_reason!~"abort|error"}',
            "sglang:e2e_request_latency_seconds_count",
        ),
    ),
    # vLLM 0.32 never counts an abort here (disconnects leave no trace); older versions do.
    Signal(
        name="aborted",
        shape=Shape.RATE,
        metrics=('vllm:request_success_total{finished_reason=~"abort|error"}', "sglang:num_aborted_requests_total"),
    ),
    Signal(name="rejected", shape=Shape.RATE, metrics=("vllm:admission_rejections_total",)),
    Signal(
        name="itl_sum",
        shape=Shape.RATE,
        metrics=(
            "vllm:inter_token_latency_seconds_sum",
            "vllm:time_per_output_token_seconds_sum",
            "sglang:inter_token_latency_seconds_sum",
        ),
    ),
    Signal(
        name="itl_count",
        shape=Shape.RATE,
        metrics=(
            "vllm:inter_token_latency_seconds_count",
            "vllm:time_per_output_token_seconds_count",
            "sglang:inter_token_latency_seconds_count",
        ),
    ),
    Signal(name="prompt_tokens", shape=Shape.RATE, metrics=("vllm:prompt_tokens_total",)),
    Signal(name="output_tokens", shape=Shape.RATE, metrics=("vllm:generation_tokens_total",)),
    # SGLang counts the tokens of a request when it has finished.
    Signal(
        name="prompt_length_sum",
        shape=Shape.RATE,
        metrics=("vllm:request_prompt_tokens_sum", "sglang:prompt_tokens_total"),
    ),
    Signal(
        name="prompt_length_count",
        shape=Shape.RATE,
        metrics=("vllm:request_prompt_tokens_count", "sglang:num_requests_total"),
    ),
    Signal(
        name="output_length_sum",
        shape=Shape.RATE,
        metrics=("vllm:request_generation_tokens_sum", "sglang:generation_tokens_total"),
    ),
    Signal(
        name="output_length_count",
        shape=Shape.RATE,
        metrics=("vllm:request_generation_tokens_count", "sglang:num_requests_total"),
    ),
    Signal(name="preempted", shape=Shape.RATE, metrics=("vllm:num_preemptions_total",)),
    # SGLang counts prompts when their requests have finished, and has no counter of hits before the first one.
    Signal(
        name="prefix_queries",
        shape=Shape.RATE,
        metrics=(
            "vllm:prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_queries_total",
            "sglang:prompt_tokens_total",
        ),
    ),
    Signal(
        name="prefix_hits",
        shape=Shape.RATE,
        metrics=(
            "vllm:prefix_cache_hits_total",
            "vllm:gpu_prefix_cache_hits_total",
            "sglang:cached_tokens_total",
        ),
    ),
    Signal(name="waiting_growth", shape=Shape.DELTA, metrics=WAITING),
    # An idle SGLang updates its gauges only every 30 s, so requests would seem to vanish long after they have finished.
    Signal(name="running_growth", shape=Shape.DELTA, metrics=RUNNING[:1]),
)

# Histograms by what they time. `itl` has a sample per output (one token, or several with speculative decoding),
# `request_itl` one per request.
HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds_bucket", "sglang:time_to_first_token_seconds_bucket"),
    "itl": (
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:time_per_output_token_seconds_bucket",
        "sglang:inter_token_latency_seconds_bucket",
    ),
    "request_itl": ("vllm:request_time_per_output_token_seconds_bucket",),
}

# Labels that hold the size of the KV cache. An engine states its own tokens, but the blocks of all engines of its pod
# (`_apply_ready_response` in vLLM's `v1/engine/core_client.py`). Before 0.24 none states tokens.
KV_INFO = "vllm:cache_config_info"
KV_INFO_LABELS = ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
KV_TOKENS = "sglang:max_total_num_tokens"

# Labels that tell apart SGLang's schedulers whose numbers add up. The ranks of a tensor-parallel group report the same
# requests (`--enable-metrics-for-all-schedulers`); the stages of a pipeline have the same queue and cache, and each
# counts the part of the batch that it is working on.
SCHEDULERS = {RUNNING[1]: "dp_rank,pp_rank", WAITING[1]: "dp_rank", KV_TOKENS: "dp_rank"}

# For a MIG partition the exporter reports 0 % utilization and the power of the whole board, so partitions are left out
# (NVIDIA/dcgm-exporter#216).
GPU = (
    Signal(name="gpu_busy", shape=Shape.MEAN, metrics=('DCGM_FI_DEV_GPU_UTIL{GPU_I_ID=""}',), scale=0.01),
    Signal(name="gpu_power_w", shape=Shape.SUM, metrics=('DCGM_FI_DEV_POWER_USAGE{GPU_I_ID=""}',)),
)
