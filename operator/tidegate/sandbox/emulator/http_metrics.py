"""
The metric families of vLLM's HTTP layer: counts, sizes and durations by handler.

As in vLLM, a rejected stream counts as 2xx, which is misleading for an operator.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
)

# Handlers that vLLM leaves out of these families.
UNCOUNTED = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})

# fmt: off
FINE_EDGES = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)
# fmt: on
COARSE_EDGES = (0.1, 0.5, 1.0)


class HttpMetrics:
    """Families of one server's HTTP layer and of the process it runs in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        GCCollector(registry)
        PlatformCollector(registry)
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "http_requests",
            "Requests by method, status and handler.",
            ["handler", "method", "status"],
            registry=registry,
        )
        self._request_size = Summary(
            "http_request_size_bytes", "Content length of requests.", ["handler"], registry=registry
        )
        self._response_size = Summary(
            "http_response_size_bytes", "Content length of responses.", ["handler"], registry=registry
        )
        self._fine = Histogram(
            "http_request_duration_highr_seconds", "Latency, many buckets.", buckets=FINE_EDGES, registry=registry
        )
        self._coarse = Histogram(
            "http_request_duration_seconds",
            "Latency by handler.",
            ["handler", "method"],
            buckets=COARSE_EDGES,
            registry=registry,
        )

    def answered(self, *, handler: str, method: str, status: int, sizes: tuple[int, int], duration_s: float) -> None:
        """
        Count one answered request.

        Args:
            handler: Path of the route.
            sizes: Content lengths of request and response, bytes; 0 without the header, as in a stream.
        """
        if handler in UNCOUNTED:
            return
        self._requests.labels(handler, method, f"{status // 100}xx").inc()
        self._request_size.labels(handler).observe(sizes[0])
        self._response_size.labels(handler).observe(sizes[1])
        self._fine.observe(duration_s)
        self._coarse.labels(handler, method).observe(duration_s)
