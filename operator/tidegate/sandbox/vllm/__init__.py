"""
Real vLLM servers on the CPU, paced to the performance law: what holds the emulated servers to account.

Question: does the emulation behave like the engine it stands for?
Enters:   vLLM's own command line and a `PerformanceLaw`. Leaves: real servers on loopback addresses, one process group
          each, and how far each kept up with its law.
May import: domain, `sandbox.binaries.cache`, `sandbox.emulator`. vLLM itself lives in an environment of its own
          in the user's cache; only `pacer`, `parent` and `tiny` touch it, and they run there.

    environment   makes and finds that environment
    tiny          a model of random weights and its tokenizer (runs there)
    pacer         sleeps out what the law says of each engine step (runs there)
    parent        has vLLM imported and forks servers (runs there)
    factory       the other end of `parent`: start, stop and watch servers
    process       such a server in the place of an emulated one

What is real: everything but the duration of a step and the sense of the answers.
"""
