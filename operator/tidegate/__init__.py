"""Tidegate: serves each LLM at the lowest cost that keeps its latency promises."""

__version__ = "0.1.0"
