"""Law, power and start-up time of a container, and which containers are vLLM servers."""

import pytest

from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Accelerator, TierSpec, WorkloadTemplate
from tidegate.estimate.priors import prior_of
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.lag import Lag
from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.hardware import DEVIATION, Hardware, drawn, hardware_of
from tidegate.sandbox.kubelet.probes import PERIOD_S_LEAST, probe_of
from tidegate.sandbox.kubelet.runtime import environment, gpus_of, is_vllm

H100 = "NVIDIA-H100-80GB-HBM3"
FP8 = ["serve", "Qwen/Qwen3-32B-FP8"]


def hardware(words: list[str] = FP8, *, gpus: int = 1, seed: int = 1, env: dict[str, str] | None = None) -> Hardware:
    return hardware_of(parse(words), arguments=words, env=env or {}, product=H100, gpus=gpus, seed=seed)


def prior(words: list[str], gpus: int) -> PerformanceLaw:
    workload = WorkloadTemplate(image="", model=parse(words).model, args=tuple(words))
    tier = TierSpec(
        name="t",
        quality=1.0,
        accelerator=H100,
        accelerators_per_replica=gpus,
        replicas_min=0,
        replicas_max=1,
        workload=workload,
    )
    return prior_of(parse(words).model, tier, Accelerator(name=H100, price_usd_per_hour=0.0, product=H100)).law


@pytest.mark.parametrize("seed", range(5))
def test_the_hardware_deviates_slightly_from_the_table(seed: int) -> None:
    found, table = hardware(seed=seed).law, prior(FP8, 1)
    factor = found.a_s / table.a_s
    assert 0 < abs(factor - 1) <= DEVIATION
    assert found.p1_s / table.p1_s == pytest.approx(factor)
    assert found.kv_cache_tokens == table.kv_cache_tokens


def test_replicas_of_a_tier_are_equal_and_tiers_differ() -> None:
    assert hardware().law == hardware().law
    ratio = hardware().law.a_s / prior(FP8, 1).a_s
    other = ["serve", "Qwen/Qwen3-32B"]
    assert hardware(other, gpus=2).law.a_s / prior(other, 2).a_s != pytest.approx(ratio)


def test_a_law_in_the_environment_is_taken_as_it_is() -> None:
    text = '{"a_s": 1, "b_s": 0, "c_s": 0, "p0_s": 0, "p1_s": 0, "kv_cache_tokens": 9, "running_max": 2}'
    assert hardware(env={"TIDEGATE_LAW": text}).law.a_s == 1


def test_more_weights_take_longer_to_load() -> None:
    assert hardware(["serve", "Qwen/Qwen3-32B"]).startup_s > hardware().startup_s


def test_power_rises_with_load_from_an_idle_draw() -> None:
    draws = [hardware().power_w(running) for running in (0, 1, 16, 64)]
    known = [draw for draw in draws if draw is not None]
    assert len(known) == 4
    assert known == sorted(known)
    assert 0 < known[0] < known[-1] <= 700


def test_start_up_times_differ_by_pod_and_are_repeatable() -> None:
    assert drawn(100, seed=1, name="a") == drawn(100, seed=1, name="a")
    assert drawn(100, seed=1, name="a") != drawn(100, seed=1, name="b")


@pytest.mark.parametrize(
    ("container", "vllm"),
    [
        pytest.param({"image": "vllm/vllm-openai:v0.32.0"}, True, id="by its image"),
        pytest.param({"image": "own/image", "command": ["vllm", "serve"]}, True, id="by its command"),
        pytest.param({"image": "nginx", "args": ["-g", "daemon off;"]}, False, id="anything else"),
    ],
)
def test_vllm_containers_are_recognized(container: Object, vllm: bool) -> None:
    assert is_vllm(container) is vllm


def test_every_kind_of_accelerator_counts_and_cpu_does_not() -> None:
    assert gpus_of({"resources": {"limits": {"nvidia.com/gpu": "4", "cpu": "8", "memory": "1Gi"}}}) == 4
    assert gpus_of({"resources": {"limits": {"amd.com/gpu": 2}}}) == 2
    assert gpus_of({}) == 0


def test_references_in_the_environment_are_left_out() -> None:
    entries = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {}}}]
    assert environment({"env": entries}) == {"A": "1"}


def test_a_probe_passes_at_the_sandboxes_pace_but_its_time_limit_is_real() -> None:
    container = {
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 12, "timeoutSeconds": 3},
        "livenessProbe": {"httpGet": {"path": "/", "port": 9}, "periodSeconds": 1},
    }
    ready = probe_of(container, "readinessProbe", address="10.244.1.2", pace=6)
    alive = probe_of(container, "livenessProbe", address="10.244.1.2", pace=12)
    assert ready is not None
    assert alive is not None
    assert (ready.url, ready.period_s, ready.timeout_s) == ("http://127.244.1.2:8000/health", 2.0, 3.0)
    assert alive.period_s == PERIOD_S_LEAST
    assert probe_of(container, "startupProbe", address="10.244.1.2", pace=1) is None


@pytest.mark.parametrize(
    ("lag_s", "step_s", "late"),
    [
        pytest.param(0.003, 0.010, 0, id="a few milliseconds are the event loop's own"),
        pytest.param(0.006, 0.100, 0, id="a small part of a long step"),
        pytest.param(0.012, 0.100, 1, id="more than a tenth and more than a few milliseconds"),
    ],
)
def test_a_step_is_late_when_a_client_could_see_it(lag_s: float, step_s: float, late: int) -> None:
    lag = Lag()
    lag.add(lag_s=lag_s, step_s=step_s)
    assert lag.figures() == {"steps": 1, "steps_late": late, "lag_total_s": lag_s, "lag_worst_s": lag_s}
