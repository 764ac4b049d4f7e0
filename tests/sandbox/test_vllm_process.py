"""How a pod's arguments are translated for a real vLLM on the CPU, without starting one."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox.test_vllm_pacer import LAW
from tidegate.errors import SpecError
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.faults import Fault
from tidegate.sandbox.emulator.server import ServerSpec
from tidegate.sandbox.vllm.environment import Environment
from tidegate.sandbox.vllm.factory import Factory
from tidegate.sandbox.vllm.process import PacedServer, arguments_of


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("", "--max-num-seqs=64", id="the hardware's limit on requests holds where it is the lower one"),
        pytest.param("--max-num-seqs 16", "--max-num-seqs=16", id="the pod's limit holds where it is the lower one"),
        pytest.param("", "--block-size=32", id="blocks are as large as the CPU's attention can have them"),
        pytest.param("--block-size 48", "--block-size=64", id="odd blocks grow to the next size it can have"),
        pytest.param("", "--num-gpu-blocks-override=2000", id="the cache holds the tokens the law says"),
        pytest.param("--num-gpu-blocks-override 100", "--num-gpu-blocks-override=50", id="the pod's own size is kept"),
        pytest.param("", "--max-model-len=32768", id="a context that nobody limits is as long as the emulated one's"),
        pytest.param("--shutdown-timeout 30", "--shutdown-timeout=30", id="it drains as long as it was told"),
        pytest.param("--no-enable-prefix-caching", "--no-enable-prefix-caching", id="the prefix cache can be off"),
        pytest.param(
            '--custom-histogram-buckets {"request_latency":[1,2]}',
            '--custom-histogram-buckets={"request_latency": [1.0, 2.0]}',
            id="own bucket edges are passed on",
        ),
    ],
)
def test_arguments(words: str, expected: str) -> None:
    assert expected in arguments_of(parse(["vllm", "serve", "m", *words.split()]), LAW)


@pytest.mark.parametrize("words", ["--tensor-parallel-size 2", "--quantization fp8", "--kv-cache-dtype fp8"])
def test_arguments_unsupported_on_a_cpu_are_dropped(words: str) -> None:
    options = parse(["vllm", "serve", "m", *words.split()])
    assert arguments_of(options, LAW) == arguments_of(parse(["vllm", "serve", "m"]), LAW)


async def test_faults_that_a_real_engine_does_not_support_are_rejected() -> None:
    options = parse(["vllm", "serve", "m"])
    spec = ServerSpec(options=options, law=LAW, address="127.0.0.1", fault=Fault.parse("crash-under-load:3"))
    with pytest.raises(SpecError, match="SANDBOX_FAULT"):
        PacedServer(spec, Factory(_nowhere()))


async def test_a_server_that_never_gets_ready_starts_nothing() -> None:
    spec = ServerSpec(
        options=parse(["vllm", "serve", "m"]), law=LAW, address="127.0.0.1", fault=Fault.parse("never-ready")
    )
    server = PacedServer(spec, Factory(_nowhere()))
    await server.start()
    assert not server.exited.done()
    await server.kill()
    assert await server.exited == 137


def test_a_small_cache_bounds_the_context() -> None:
    small = replace(LAW, kv_cache_tokens=3200)
    assert "--max-model-len=3168" in arguments_of(parse(["vllm", "serve", "m"]), small)


def _nowhere() -> Environment:
    return Environment(folder=Path("/nowhere"))
