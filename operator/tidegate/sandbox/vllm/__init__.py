"""
Real vLLM servers on the CPU, paced to the performance law, to validate the emulated servers.

Question: does the emulation behave like the real engine?
Enters:   vLLM's own command line and a `PerformanceLaw`.
Leaves:   real servers on loopback addresses, one process group each, and how late their steps ended.
May import: domain, `sandbox.binaries.cache`, `sandbox.emulator`. vLLM is installed in a separate environment in the
          user's cache; only `pacer`, `parent` and `tiny` import it, and they run there.

    environment   creates and finds that environment
    tiny          a model with random weights, and its tokenizer (runs there)
    pacer         makes each engine step take as long as the law says (runs there)
    parent        has vLLM imported and forks servers (runs there)
    factory       the counterpart of `parent`: starts, stops and watches servers
    process       such a server in place of an emulated one

Everything is real except the duration of a step and the content of the answers.
"""
