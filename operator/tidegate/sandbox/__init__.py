"""
A whole cluster on one bare machine: what `tidegate sandbox` shows and the end-to-end tests run on.

Question: how does one try Tidegate with neither GPU nor cluster? Enters: a folder and a handful of options.
Leaves: a control plane, nodes with GPUs, vLLM servers, Prometheus and traffic, all on loopback; nothing when it stops.
May import: `ports`, report (currencies), estimate, domain and below.

The operator runs beside the sandbox as its own process, never inside it.
"""
