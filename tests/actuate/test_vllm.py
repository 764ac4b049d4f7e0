"""The command line of a replica."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.actuate.orders import managed, spec_of
from tidegate.actuate.vllm import buckets, findings, server, version_of
from tidegate.domain.spec import Slo
from tidegate.estimate.arguments import flags


@pytest.mark.parametrize(
    ("image", "version"),
    [
        pytest.param("vllm/vllm-openai:v0.32.0", (0, 32), id="a release"),
        pytest.param("vllm/vllm-openai:0.9.2", (0, 9), id="a release without v"),
        pytest.param("registry.local:5000/ai/vllm:v0.32.1-cu129", (0, 32), id="a build of a release behind a port"),
        pytest.param("vllm:v0.18.0rc2", (0, 18), id="a candidate"),
        pytest.param("vllm/vllm-openai:v0.32.0@sha256:abcd", (0, 32), id="a release pinned by digest"),
        pytest.param("vllm/vllm-openai:latest", None, id="whatever is latest"),
        pytest.param("vllm/vllm-openai@sha256:abcd", None, id="a digest alone"),
        pytest.param("registry.local:5000/vllm", None, id="no tag, but a port"),
        pytest.param("vllm:20260101", None, id="a date"),
        pytest.param("vllm:v0.32x", None, id="an own scheme"),
        pytest.param("nvcr.io/nvidia/vllm:25.10-py3", None, id="NVIDIA's months"),
        pytest.param("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2.1", None, id="Red Hat's releases"),
        pytest.param("registry.corp/ai/vllm:1.4.2", None, id="a company's own count"),
    ],
)
def test_the_release_is_read_from_the_tag(image: str, version: tuple[int, int] | None) -> None:
    assert version_of(image) == version


def test_an_image_of_unknown_release_gets_no_flag_that_it_may_not_know() -> None:
    tier = managed(image="nvcr.io/nvidia/vllm:25.10-py3")
    how = server(spec_of(tier), tier)
    assert flags(how.args).keys() & {"--shutdown-timeout", "--custom-histogram-buckets"} == set()


def test_a_replica_serves_the_deployments_model_under_its_name() -> None:
    tier = managed(model="org/model-awq", args=("--max-model-len", "8192"))
    how = server(spec_of(tier), tier)
    assert how.command == ("vllm", "serve")
    assert how.args[0] == "org/model-awq"
    assert flags(how.args)["--served-model-name"] == "org/model"
    assert how.args[-2:] == ("--max-model-len", "8192")


@pytest.mark.parametrize(
    ("gpus", "args", "expected"),
    [
        pytest.param(1, (), None, id="one accelerator needs no word"),
        pytest.param(4, (), "4", id="several share each layer"),
        pytest.param(4, ("-tp", "2", "--data-parallel-size=2"), "2", id="the user knows better"),
        pytest.param(4, ("--data-parallel-size=4",), None, id="engines side by side take one each"),
        pytest.param(8, ("-dp", "2"), "4", id="engines side by side share them"),
        pytest.param(8, ("-dp", "0"), "8", id="a number of engines that is none"),
        pytest.param(8, ("--pipeline-parallel-size", "2"), "4", id="pipeline stages share them"),
        pytest.param(8, ("-pp", "2", "-dp", "2"), "2", id="stages of engines side by side"),
        pytest.param(8, ("-pp=8",), None, id="stages take one each"),
    ],
)
def test_parallelism_follows_the_accelerators(gpus: int, args: tuple[str, ...], expected: str | None) -> None:
    tier = managed(gpus=gpus, args=args)
    assert flags(server(spec_of(tier), tier).args).get("--tensor-parallel-size") == expected


@pytest.mark.parametrize(
    ("image", "drains", "has_buckets"),
    [
        pytest.param("vllm:v0.32.0", True, True, id="0.32 knows both"),
        pytest.param("vllm:v0.18.0", True, False, id="0.18 drains"),
        pytest.param("vllm:v0.17.1", False, False, id="0.17 knows neither"),
        pytest.param("vllm:latest", False, False, id="of an unknown release nothing is assumed"),
    ],
)
def test_only_flags_that_the_release_knows_are_given(image: str, drains: bool, has_buckets: bool) -> None:
    tier = managed(image=image)
    how = server(spec_of(tier), tier)
    given_flags = flags(how.args)
    assert ("--shutdown-timeout" in given_flags) == drains
    assert ("--custom-histogram-buckets" in given_flags) == has_buckets
    assert how.pre_stop_s == (15 if drains else 60)
    assert how.grace_s > how.pre_stop_s + int(given_flags.get("--shutdown-timeout", "0"))


def test_the_grace_period_follows_the_users_own_drain() -> None:
    tier = managed(args=("--shutdown-timeout=600",))
    how = server(spec_of(tier), tier)
    assert how.args.count("--shutdown-timeout") == 0
    assert how.grace_s > 600 + how.pre_stop_s


def test_a_drain_timeout_that_the_user_sets_counts_for_an_unknown_release() -> None:
    tier = managed(image="registry.example/vllm:latest", args=("--shutdown-timeout", "900"))
    how = server(spec_of(tier), tier)
    assert how.grace_s > 900 + how.pre_stop_s


@pytest.mark.parametrize("text", ["²", "soon", "9" * 40, ""], ids=["a superscript", "a word", "an age", "nothing"])
def test_an_invalid_drain_timeout_is_replaced_by_the_default(text: str) -> None:
    odd, usual = managed(args=("--shutdown-timeout", text)), managed()
    assert server(spec_of(odd), odd).grace_s == server(spec_of(usual), usual).grace_s


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("--model", "org/other", "--max-num-seqs", "64"), id="in two words"),
        pytest.param(("--max-num-seqs", "64", "--model=org/other"), id="in one word"),
    ],
)
def test_a_model_named_by_flag_comes_first_because_old_releases_refuse_the_flag(args: tuple[str, ...]) -> None:
    tier = managed(model="org/model-awq", args=args)
    how = server(spec_of(tier), tier)
    assert (how.args[0], how.args[-2:]) == ("org/other", ("--max-num-seqs", "64"))
    assert sum("org/other" in word for word in how.args) == 1
    assert flags(how.args).keys().isdisjoint({"--model"})


@given(ttft_s=st.floats(min_value=0.001, max_value=600), itl_s=st.floats(min_value=0.001, max_value=60))
def test_both_targets_are_edges_and_edges_rise(ttft_s: float, itl_s: float) -> None:
    edges = json.loads(buckets(Slo(ttft_s=ttft_s, itl_s=itl_s)))
    for family, target in (("time_to_first_token", ttft_s), ("inter_token_latency", itl_s)):
        assert edges[family] == sorted(set(edges[family]))
        assert min(abs(edge / target - 1) for edge in edges[family]) < 1e-5
        assert len(edges[family]) < 50


def test_round_targets_change_no_edge_so_that_no_replica_restarts() -> None:
    texts = {buckets(Slo(ttft_s=ttft_s, itl_s=itl_s)) for ttft_s in (0.3, 0.5, 1.0, 2.0) for itl_s in (0.02, 0.04, 0.1)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("name", "image"),
    [("gptq", "vllm:v0.21.0"), ("awq", "vllm:v0.23.0"), ("gptq", "vllm:latest"), ("awq", "vllm:latest")],
)
def test_a_quantization_flag_that_slows_down_is_reported(name: str, image: str) -> None:
    (finding,) = findings(managed("int4", image=image, args=("-q", name)))
    assert (finding.type, finding.reason) == ("ConfigurationWarning", "SlowQuantization")
    assert f"tier int4: --quantization {name}" in finding.message


@pytest.mark.parametrize(("name", "image"), [("gptq", "vllm:v0.22.0"), ("awq", "vllm:v0.24.0")])
def test_releases_that_use_the_fast_kernel_anyway_are_not_warned_about(name: str, image: str) -> None:
    assert findings(managed("int4", image=image, args=("--quantization", name))) == ()


def test_other_quantization_is_not_reported() -> None:
    assert findings(managed(args=("--quantization", "fp8"))) == ()
