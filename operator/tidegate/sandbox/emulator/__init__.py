"""
A vLLM server without a GPU: the same HTTP, the same metrics, the same scheduling, step times from a law.

Question: what would this container do on that accelerator?
Enters:   vLLM's own command line and a `PerformanceLaw`. Leaves: an OpenAI-compatible server on a loopback address.
May import: domain, aiohttp, prometheus_client.

What is real: HTTP and SSE, queueing, admission, chunked prefill, KV blocks, preemption, prefix cache, drain, and
every name, type, label and bucket of `/metrics` (vLLM 0.32). What is not: the tokens (filler words), the tokenizer
(about four characters a token; token ids are counted exactly) and the duration of a step, which is slept out.
"""
