"""vLLM's command line, parsed as by vLLM."""

import pytest

from tidegate.errors import SpecError
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.faults import Fault, FaultKind


@pytest.mark.parametrize(
    ("words", "model"),
    [
        pytest.param(["--model", "m"], "m", id="arguments of an image with an entry point"),
        pytest.param(["vllm", "serve", "m"], "m", id="the vllm command"),
        pytest.param(["python3", "-m", "vllm.entrypoints.openai.api_server", "--model=m"], "m", id="the module"),
        pytest.param(["/bin/sh", "-c", "exec vllm serve m --port 9"], "m", id="a shell around it"),
    ],
)
def test_the_model_is_found_however_it_is_started(words: list[str], model: str) -> None:
    assert parse(words).model == model


def test_underscores_and_short_names_are_taken_as_vllm_takes_them() -> None:
    options = parse(["m", "--max_num_seqs=12", "-tp", "4", "-q", "fp8", "--max-model-len", "8k"])
    assert (options.seqs, options.quantization, options.model_len) == (12, "fp8", 8000)
    assert options.ignored == ()


def test_clients_may_ask_for_any_served_name_and_without_one_for_the_model() -> None:
    assert parse(["m"]).served_names == ("m",)
    assert parse(["m", "--served-model-name", "a", "b"]).served_names == ("a", "b")


def test_an_argument_without_effect_is_reported() -> None:
    assert parse(["m", "--dtype", "bfloat16", "--enforce-eager"]).ignored == ("--dtype", "bfloat16", "--enforce-eager")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["m", "--max-num-seqs", "0"], id="no sequence at all"),
        pytest.param(["m", "--port"], id="a name without a value"),
        pytest.param(["m", "--custom-histogram-buckets", "[1]"], id="buckets that are no object"),
        pytest.param(["m", "--custom-histogram-buckets", '{"latency": [1]}'], id="buckets of an unknown family"),
        pytest.param(["m", "--custom-histogram-buckets", '{"request_latency": [2, 1]}'], id="buckets that fall"),
    ],
)
def test_what_vllm_rejects_is_rejected(words: list[str]) -> None:
    with pytest.raises(SpecError):
        parse(words)


def test_a_fault_is_read_with_its_number() -> None:
    assert Fault.parse("slow:2.5") == Fault(kind=FaultKind.SLOW, number=2.5)
    assert Fault.parse("crash-under-load") == Fault(kind=FaultKind.CRASH_UNDER_LOAD, number=8.0)
    assert Fault.parse(None).kind is FaultKind.NONE
    with pytest.raises(SpecError):
        Fault.parse("explode")
