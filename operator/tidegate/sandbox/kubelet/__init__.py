"""
Nodes with GPUs that are not there: a stand-in kubelet.

Question: what becomes of a pod that the scheduler bound to a node? Enters: pods, through the API server.
Leaves: Node objects, Leases, pod status and events as a kubelet reports them, and vLLM servers on loopback addresses.
May import: domain, estimate (what a tier's law and start-up are), sandbox.emulator, .exporter, .kube and .vllm.

    addresses   the pod address that is reported and the loopback address behind it
    machines    Node and Lease objects
    hardware    which law and which start-up a container has on that accelerator
    runtime     containers as processes: an emulated vLLM server, or one that only waits
    probes      startup, readiness and liveness, actually called
    container   one container: pull, start, probe, crash, back off, start again
    status      what a kubelet writes, as values
    pod         one pod: its containers, its deletion, its status
    nodes       all of it on several nodes

What is not here: logs and exec, volumes, init containers (they pass at once), exec probes (they pass while the
container runs), and any container that is not vLLM (it only waits).
"""
