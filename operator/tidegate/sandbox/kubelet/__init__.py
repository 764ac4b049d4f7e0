"""
Hollow nodes: an emulated kubelet for nodes with GPUs that do not exist.

Question: what happens to a pod after the scheduler bound it to a node?
Enters:   pods, through the API server.
Leaves:   Node objects, Leases, pod status and events as a kubelet reports them, and vLLM servers on loopback addresses.
May import: domain, estimate (for a tier's law and start-up), sandbox.emulator, .exporter, .kube and .vllm.

    addresses   the address that a pod reports, and the loopback address behind it
    machines    Node and Lease objects
    hardware    law and start-up time of a container on an accelerator
    runtime     containers as processes: a vLLM server, or one that only waits
    probes      startup, readiness and liveness probes, really called
    container   one container: pull, start, probe, crash, back off, restart
    status      what a kubelet writes, as values
    pod         one pod: its containers, its deletion, its status
    gpus        which pod holds which accelerator, and how busy it is
    nodes       all of this on several nodes

Not supported: logs and exec, volumes, init containers (they succeed at once), exec probes (they succeed while the
container runs), and containers that are not vLLM (they only wait).
"""
