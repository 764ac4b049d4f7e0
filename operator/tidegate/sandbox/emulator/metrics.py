"""
The engine's metric families of vLLM 0.32, with its names, types, labels and bucket edges.

Each server has its own registry, so that many servers can share a process. The HTTP layer's families are in
`http_metrics.py`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidegate.sandbox.emulator.scheduler import Request, Step

Vector = TypeVar("Vector", Counter, Gauge)

# fmt: off
TTFT_EDGES = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)
ITL_EDGES = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)
LATENCY_EDGES = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)
# fmt: on
ITERATION_EDGES = (1.0, *(float(2**power) for power in range(3, 15)))
PREEMPTION_EDGES = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
N_EDGES = (1.0, 2.0, 5.0, 10.0, 20.0)

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_SOURCES = ("device", "host", "disk", "p2p", "external_unspecified")
REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens")

# Families that stay at zero, because their sources (MFU accounting, KV connectors, multimodal input) are not emulated.
ZERO_COUNTERS = {
    "estimated_flops_per_gpu": "Estimated number of floating point operations per GPU.",
    "estimated_read_bytes_per_gpu": "Estimated number of bytes read from memory per GPU.",
    "estimated_write_bytes_per_gpu": "Estimated number of bytes written to memory per GPU.",
    "external_prefix_cache_queries": "Prefix cache queries to other instances, in tokens.",
    "external_prefix_cache_hits": "Prefix cache hits from other instances, in tokens.",
    "mm_cache_queries": "Multi-modal cache queries, in items.",
    "mm_cache_hits": "Multi-modal cache hits, in items.",
}


def length_edges(model_len: int) -> tuple[float, ...]:
    """Edges of vLLM's length histograms: the 1-2-5 series up to the longest request."""
    series = (mantissa * 10**power for power in range(12) for mantissa in (1, 2, 5))
    return tuple(float(edge) for edge in series if edge <= model_len)


class EngineMetrics:
    """
    The engine's families of one server.

    Args:
        model_name: Value of the label `model_name`: the first served name.
        model_len: Longest request, tokens; the end of the length histograms.
        buckets: Custom edges by family (`--custom-histogram-buckets`).
        cache_info: Labels of `vllm:cache_config_info`.
    """

    def __init__(
        self,
        *,
        model_name: str,
        model_len: int,
        buckets: Mapping[str, Sequence[float]],
        cache_info: Mapping[str, str],
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._labels = {"model_name": model_name, "engine": "0"}
        self._make_gauges(cache_info)
        self._make_counters(model_name)
        self._make_lengths(length_edges(model_len))
        self._make_latencies(buckets)
        self.asleep(None)

    def _make_gauges(self, cache_info: Mapping[str, str]) -> None:
        self.running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self.waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        by_reason = self._vector(
            Gauge, "num_requests_waiting_by_reason", "Number of waiting requests by reason.", "reason"
        )
        self.waiting_capacity = by_reason.labels(**self._labels, reason="capacity")
        by_reason.labels(**self._labels, reason="deferred")
        self.kv_usage = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._sleep = self._vector(Gauge, "engine_sleep_state", "Engine sleep state.", "sleep_state")
        info = Gauge("vllm:cache_config_info", "Cache configuration.", [*cache_info, "engine"], registry=self.registry)
        info.labels(**cache_info, engine="0").set(1)

    def _make_counters(self, model_name: str) -> None:
        for name, text in ZERO_COUNTERS.items():
            self._counter(name, text)
        self.cache_queries = self._counter("prefix_cache_queries", "Prefix cache queries, in tokens.")
        self.cache_hits = self._counter("prefix_cache_hits", "Prefix cache hits, in tokens.")
        self.preemptions = self._counter("num_preemptions", "Cumulative number of preemptions.")
        self.prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self.prompt_tokens_cached = self._counter("prompt_tokens_cached", "Number of cached prompt tokens.")
        self.generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        self._by_source = self._vector(Counter, "prompt_tokens_by_source", "Prompt tokens by source.", "source")
        self._cached_by = self._vector(
            Counter, "prompt_tokens_cached_by_source", "Cached prompt tokens by cache tier.", "source"
        )
        self._success = self._vector(
            Counter, "request_success", "Count of successfully processed requests.", "finished_reason"
        )
        touch = ((self._by_source, SOURCES), (self._cached_by, CACHE_SOURCES), (self._success, FINISH_REASONS))
        for vector, values in touch:
            for value in values:
                vector.labels(model_name, "0", value)
        self._rejections = Counter(
            "vllm:admission_rejections",
            "Rejected admissions by reason.",
            ["model_name", "reason"],
            registry=self.registry,
        )
        for reason in REJECTIONS:
            self._rejections.labels(model_name, reason)

    def _make_lengths(self, edges: Sequence[float]) -> None:
        self.request_prompt = self._histogram("request_prompt_tokens", "Prefill tokens of a request.", edges)
        self.request_generation = self._histogram("request_generation_tokens", "Generation tokens of a request.", edges)
        self.iteration = self._histogram("iteration_tokens_total", "Tokens per engine step.", ITERATION_EDGES)
        self.request_most = self._histogram("request_max_num_generation_tokens", "Most tokens asked for.", edges)
        self.request_n = self._histogram("request_params_n", "The n request parameter.", N_EDGES)
        self.request_max = self._histogram("request_params_max_tokens", "The max_tokens request parameter.", edges)
        self.request_preemptions = self._histogram(
            "request_num_preemptions", "Times a request was preempted.", PREEMPTION_EDGES
        )
        self.request_computed = self._histogram(
            "request_prefill_kv_computed_tokens", "New KV tokens computed during prefill.", edges
        )

    def _make_latencies(self, buckets: Mapping[str, Sequence[float]]) -> None:
        itl = buckets.get("inter_token_latency", ITL_EDGES)
        whole = buckets.get("request_latency", LATENCY_EDGES)
        self.ttft = self._histogram(
            "time_to_first_token_seconds", "Time to first token.", buckets.get("time_to_first_token", TTFT_EDGES)
        )
        self.itl = self._histogram("inter_token_latency_seconds", "Inter-token latency.", itl)
        self.request_itl = self._histogram("request_time_per_output_token_seconds", "Mean per request.", itl)
        self.e2e = self._histogram("e2e_request_latency_seconds", "Whole request.", whole)
        self.queue = self._histogram("request_queue_time_seconds", "Time in WAITING.", whole)
        self.inference = self._histogram("request_inference_time_seconds", "Time in RUNNING.", whole)
        self.prefill = self._histogram("request_prefill_time_seconds", "Time in PREFILL.", whole)
        self.decode = self._histogram("request_decode_time_seconds", "Time in DECODE.", whole)

    def stepped(self, step: Step, *, running: int, waiting: int, kv_usage: float) -> None:
        """Count one finished step and set the gauges."""
        self.iteration.observe(step.tokens)
        if step.preempted:
            self.preemptions.inc(step.preempted)
        self.state(running=running, waiting=waiting, kv_usage=kv_usage)

    def state(self, *, running: int, waiting: int, kv_usage: float) -> None:
        """Set the gauges."""
        self.running.set(running)
        self.waiting.set(waiting)
        self.waiting_capacity.set(waiting)
        self.kv_usage.set(kv_usage)

    def first_token(self, request: Request, now_s: float) -> None:
        """Count a first token and its prompt."""
        fresh = request.prompt_tokens - request.cached
        self.ttft.observe(now_s - request.arrived_s)
        self.prompt_tokens.inc(request.prompt_tokens)
        self.prompt_tokens_cached.inc(request.cached)
        self.cache_queries.inc(request.prompt_tokens)
        self.cache_hits.inc(request.cached)
        self._by_source.labels(**self._labels, source="local_compute").inc(fresh)
        self._by_source.labels(**self._labels, source="local_cache_hit").inc(request.cached)
        self._cached_by.labels(**self._labels, source="device").inc(request.cached)

    def finished(self, request: Request, *, max_tokens: int, reason: str, now_s: float) -> None:
        """Count a finished request."""
        assert request.first_scheduled_s is not None, "it ran"
        assert request.first_token_s is not None, "it had a first token"
        decode_s = request.last_token_s - request.first_token_s
        self._success.labels(**self._labels, finished_reason=reason).inc()
        self.e2e.observe(now_s - request.arrived_s)
        self.queue.observe(request.first_scheduled_s - request.arrived_s)
        self.prefill.observe(request.first_token_s - request.first_scheduled_s)
        self.decode.observe(decode_s)
        self.inference.observe(request.last_token_s - request.first_scheduled_s)
        self.request_itl.observe(decode_s / (request.emitted - 1) if request.emitted > 1 else 0.0)
        self.request_prompt.observe(request.prompt_tokens)
        self.request_generation.observe(request.emitted)
        self.request_most.observe(request.emitted)
        self.request_n.observe(1)
        self.request_max.observe(max_tokens)
        self.request_preemptions.observe(request.preemptions)
        self.request_computed.observe(request.prefill_computed)

    def rejected(self, reason: str) -> None:
        """Count a request that was rejected by a queue limit."""
        self._rejections.labels(self._labels["model_name"], reason).inc()

    def asleep(self, level: int | None) -> None:
        """Set the sleep level; None: awake."""
        states = {"awake": level is None, "weights_offloaded": level == 1, "discard_all": level == 2}
        for state, holds in states.items():
            self._sleep.labels(**self._labels, sleep_state=state).set(float(holds))

    def _vector(self, kind: type[Vector], name: str, text: str, label: str) -> Vector:
        return kind(f"vllm:{name}", text, ["model_name", "engine", label], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, list(self._labels), registry=self.registry).labels(**self._labels)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, list(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, text: str, edges: Sequence[float]) -> Histogram:
        whole = Histogram(f"vllm:{name}", text, list(self._labels), buckets=edges, registry=self.registry)
        return whole.labels(**self._labels)
