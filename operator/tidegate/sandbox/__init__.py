"""
A whole cluster on one machine, for `tidegate sandbox` and the end-to-end tests.

Question: how can one try Tidegate without a GPU and without a cluster?
Enters:   manifests, traffic and a few options.
Leaves:   a control plane, nodes with GPUs, vLLM servers, Prometheus and traffic, all on loopback. Nothing remains after
          it stops.
May import: `ports`, report (currencies), estimate, domain and below.

The operator runs next to the sandbox in its own process, never inside it.
"""
