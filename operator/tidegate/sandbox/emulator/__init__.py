"""
An emulated vLLM server without a GPU: same HTTP API, same metrics, same scheduling, step times from a law.

Question: what would this container do on that accelerator?
Enters:   vLLM's own command line and a `PerformanceLaw`.
Leaves:   an OpenAI-compatible server on a loopback address.
May import: domain, aiohttp, prometheus_client.

Faithful: HTTP and SSE, queueing, admission, chunked prefill, KV blocks, preemption, prefix cache, draining, and every
name, type, label and bucket of `/metrics` (vLLM 0.32). Not faithful: the tokens (filler words), the tokenizer (four
characters count as one token; token ids are counted exactly), and the computation of a step, which is a sleep.
"""
