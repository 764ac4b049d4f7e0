"""`tidegate plan` for people and pull requests: tables, break-even, exit codes, and errors that say what to change."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.cli.ticks import spec
from tests.prometheus_server import PrometheusHandler, serving
from tidegate.api.convert import deployment_spec
from tidegate.cli.plan import command
from tidegate.cli.plan.question import Load, Verdict
from tidegate.cli.plan.render import render
from tidegate.domain.decision import Decision, Reason
from tidegate.domain.key import Key
from tidegate.forecast import ForecastMemory

ACCELERATOR: dict[str, Any] = {
    "apiVersion": "tidegate.io/v1alpha1",
    "kind": "AcceleratorClass",
    "metadata": {"name": "h100"},
    "spec": {"pricePerHour": "3.00", "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
}


PRICES = ("--api-price-in", 0.1, "--api-price-out", 0.4)


def manifest(name: str = "chat", **changes: object) -> dict[str, object]:
    return {
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": spec(**changes),
    }


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    return written(tmp_path, ACCELERATOR, manifest())


def written(folder: Path, *documents: object) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def answered(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--output", "json")
    assert result.exit_code in (0, 2), result.output
    found: dict[str, Any] = json.loads(result.stdout)["deployments"][0]
    return found


def total(plan: dict[str, Any]) -> int:
    return sum(tier["replicas"] for tier in plan["tiers"].values())


def test_the_tables_show_fleet_promises_and_other_fleets(chat: Path) -> None:
    result = run("-f", chat, "--demand", 14, "--prompt-tokens", 1024, "--output-tokens", 256)
    assert result.exit_code == 0, result.output
    assert "prod/chat: meta-llama/Llama-3.1-8B-Instruct at 14 req/s" in result.stdout
    for words in (
        "Fleet",
        "Promises",
        "Alternatives",
        "time to first token, p95",
        "500 ms",
        "why not",
        "req/s per replica",
    ):
        assert words in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 200


def test_long_names_are_shown_whole(tmp_path: Path) -> None:
    accelerator, name = "nvidia-h100-80gb-hbm3-reserved-europe-west4", "bf16-h100-reserved-europe-west4"
    tiers = [{"name": name, "accelerator": accelerator}]
    path = written(tmp_path, ACCELERATOR | {"metadata": {"name": accelerator}}, manifest(tiers=tiers))
    result = run("-f", path, "--demand", 14)
    assert f" {name}   1 x {accelerator} " in result.stdout


def test_what_is_predicted_stands_beside_what_is_asked_for(chat: Path) -> None:
    text = run("-f", chat, "--demand", 14).stdout
    assert re.search(r"time to first token, p95 +\d+ ms +500 ms", text)


@pytest.mark.parametrize(("bound", "is_limited"), [(1, True), (24, False)], ids=["too few", "enough"])
def test_what_limits_a_fleet_stands_beside_what_would_run_without_it(
    tmp_path: Path, bound: int, is_limited: bool
) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(maxReplicas=bound))
    text = run("-f", path, "--demand", 100).stdout
    assert bool(re.search(r"limited by MaxReplicas; without limits: [2-9] x ", text)) is is_limited
    assert ("limited by" in text) is is_limited


def test_a_deployment_that_cannot_be_planned_keeps_no_promise() -> None:
    key = Key("prod", "chat")
    load = Load(memory=ForecastMemory(), rate_rps=1.0, prompt_tokens=1000.0, output_tokens=250.0)
    failed = Decision(key=key, tiers={}, reason=Reason.PLANNER_FAULT, message="m", error="E")
    verdict = Verdict(spec=deployment_spec(key, spec(), offline=True), load=load, decision=failed)
    assert not verdict.is_kept
    assert "cannot be planned: E" in render([verdict], {}, form="text")


def test_a_class_that_is_priced_in_euros_is_planned_in_euros(tmp_path: Path) -> None:
    in_euros = {**ACCELERATOR, "spec": {**ACCELERATOR["spec"], "currency": "EUR"}}
    result = run("-f", written(tmp_path, in_euros, manifest()), "--demand", 14)
    assert result.exit_code == 0, result.output
    assert "EUR/h" in result.stdout
    assert "$" not in result.stdout


def test_json_names_the_currency_in_every_sentence(tmp_path: Path) -> None:
    in_euros = {**ACCELERATOR, "spec": {**ACCELERATOR["spec"], "currency": "EUR"}}
    result = run("-f", written(tmp_path, in_euros, manifest()), "--demand", 14, "--output", "json")
    assert "$" not in result.stdout
    plan = json.loads(result.stdout)["deployments"][0]
    assert plan["currency"] == "EUR"
    assert "EUR/h" in plan["message"]


@pytest.mark.parametrize(
    ("mode", "annotation", "told"),
    [
        ("Off", "false", "the manifest says mode Off: this is what mode Auto would do"),
        ("Recommend", "false", "the manifest says mode Recommend: this is what mode Auto would do"),
        ("Auto", "true", "the manifest says paused: this is what mode Auto would do"),
        ("Off", "true", "the manifest says mode Off and paused: this is what mode Auto would do"),
    ],
)
def test_mode_and_pause_are_ignored_by_plan(tmp_path: Path, mode: str, annotation: str, told: str) -> None:
    kept = manifest(mode=mode)
    kept["metadata"] = {"name": "chat", "namespace": "prod", "annotations": {"tidegate.io/paused": annotation}}
    path = written(tmp_path, ACCELERATOR, kept)
    for form in ("text", "markdown"):
        assert told in run("-f", path, "--demand", 40, "--output", form).stdout
    plan = answered("-f", path, "--demand", 40)
    assert total(plan) >= 1
    assert plan["manifest"] == {"mode": mode, "paused": annotation == "true"}
    assert plan["predicted"]["attainment"] >= 0.99


def test_a_deployment_that_acts_is_planned_unchanged(chat: Path) -> None:
    assert "the manifest says" not in run("-f", chat, "--demand", 40).stdout


def test_a_fleet_pinned_to_zero_keeps_no_promise(tmp_path: Path) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(replicas=0, maxReplicas=4))
    result = run("-f", path, "--demand", 40, *PRICES)
    assert result.exit_code == 2
    assert "SLOMet is False" in result.stdout
    assert "no demand above which" in result.stdout


def test_markdown_is_tables_that_a_pull_request_shows(chat: Path) -> None:
    result = run("-f", chat, "--demand", 14, "--output", "markdown")
    assert result.stdout.startswith("## prod/chat")
    heads = [line for line in result.stdout.splitlines() if re.fullmatch(r"\|( --- \|)+", line)]
    assert len(heads) >= 2
    assert "| fp8 |" in result.stdout


def test_json_holds_the_plan_of_the_protocol_and_the_reasons(chat: Path) -> None:
    plan = answered("-f", chat, "--demand", 14)
    assert plan["promisesKept"] is True
    assert plan["demand"]["arrival_rate"] == 14.0
    assert plan["forecast"]["arrival_rate"] == pytest.approx(14.0, rel=0.05)
    assert plan["predicted"]["cost_per_hour"] == pytest.approx(3.0 * total(plan))
    assert plan["predicted"]["attainment"] >= 0.99
    assert plan["bindingConstraint"] == "None"


def test_without_demand_there_is_no_price_per_token(chat: Path) -> None:
    plan = answered("-f", chat, "--demand", 0)
    assert plan["predicted"]["cost_per_hour"] == 3.0
    assert plan["predicted"]["cost_per_million_output_tokens"] is None


def test_more_demand_takes_more(chat: Path) -> None:
    few, many = answered("-f", chat, "--demand", 5), answered("-f", chat, "--demand", 80)
    assert total(many) > total(few)
    assert many["predicted"]["cost_per_hour"] > few["predicted"]["cost_per_hour"]


@pytest.mark.parametrize(
    ("changes", "demand", "told"),
    [
        pytest.param(
            {"slo": {"ttftMilliseconds": 1, "itlMilliseconds": 1}}, 5, "SLOMet", id="targets nothing can meet"
        ),
        pytest.param({"maxReplicas": 1}, 200, "MaxReplicas", id="too few replicas allowed"),
        pytest.param({"cost": {"budgetPerHour": "6"}}, 200, "Budget", id="too little money"),
    ],
)
def test_promises_that_cannot_be_met_end_with_2(
    tmp_path: Path, changes: dict[str, Any], demand: float, told: str
) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(**changes))
    result = run("-f", path, "--demand", demand)
    assert result.exit_code == 2, result.output
    assert told in result.stdout
    plan = answered("-f", path, "--demand", demand)
    assert plan["promisesKept"] is False


def test_deployments_share_what_a_class_holds(tmp_path: Path) -> None:
    small = ACCELERATOR | {"spec": ACCELERATOR["spec"] | {"capacity": 2}}  # type: ignore[operator]
    path = written(tmp_path, small, manifest("chat", priority=10), manifest("batch", priority=1))
    result = run("-f", path, "--demand", 60, "--output", "json")
    plans = {plan["name"]: plan for plan in json.loads(result.stdout)["deployments"]}
    assert total(plans["chat"]) + total(plans["batch"]) <= 2
    assert result.exit_code == 2


def test_each_deployment_may_have_its_own_demand(tmp_path: Path) -> None:
    path = written(tmp_path, ACCELERATOR, manifest("chat"), manifest("batch"))
    result = run("-f", path, "--demand", "chat=80", "--demand", "prod/batch=2", "--output", "json")
    plans = {plan["name"]: plan for plan in json.loads(result.stdout)["deployments"]}
    assert plans["chat"]["demand"]["arrival_rate"] == 80.0
    assert total(plans["chat"]) > total(plans["batch"])


@pytest.mark.parametrize("demands", [("chat=80", "2"), ("2", "chat=80")], ids=["its own first", "its own last"])
def test_a_demand_of_its_own_goes_before_the_one_for_all(tmp_path: Path, demands: tuple[str, ...]) -> None:
    path = written(tmp_path, ACCELERATOR, manifest("chat"), manifest("batch"))
    result = run("-f", path, "--output", "json", *[word for demand in demands for word in ("--demand", demand)])
    rates = {plan["name"]: plan["demand"]["arrival_rate"] for plan in json.loads(result.stdout)["deployments"]}
    assert rates == {"chat": 80.0, "batch": 2.0}


def own_usd(path: Path, rate: float, *shape: object) -> float:
    """$/h of the own fleet."""
    return float(answered("-f", path, "--demand", rate, *shape)["predicted"]["cost_per_hour"])


def test_break_even_is_where_the_api_bill_reaches_the_fleet(chat: Path) -> None:
    shape = ("--prompt-tokens", 1000, "--output-tokens", 250)
    even = answered("-f", chat, "--demand", 20, *shape, *PRICES)["breakEven"]
    # 1,000 tokens at $0.1 and 250 at $0.4 per million: $0.0002 a request.
    assert even["api_cost_per_hour"] == pytest.approx(20 * 3600 * 0.0002)
    rate = even["arrival_rate"]
    assert own_usd(chat, rate * 1.001, *shape) <= rate * 3600 * 0.0002 * 1.01
    assert own_usd(chat, rate * 0.9, *shape) > rate * 0.9 * 3600 * 0.0002


def test_above_the_break_even_the_own_fleet_is_never_dearer_again(chat: Path) -> None:
    # A replica of $3/h buys 14.5 req/s there and carries about 23 here: two of them are dearer until 29 req/s.
    api_usd = 3600 * (1024 + 256) * 0.045 / 1e6
    prices = ("--api-price-in", 0.045, "--api-price-out", 0.045)
    assert own_usd(chat, 20) <= 20 * api_usd, "one replica is cheaper already"
    assert own_usd(chat, 27) > 27 * api_usd, "and the second makes it dearer once more"
    even = answered("-f", chat, "--demand", 20, *prices)["breakEven"]["arrival_rate"]
    for rate in (even * (1 + step / 10) for step in range(1, 12)):
        assert own_usd(chat, rate) <= rate * api_usd


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"minReplicas": 0, "scaleToZero": {"idleSeconds": 300}}, id="zero replicas are allowed"),
        pytest.param({"mode": "Off"}, id="mode Off"),
    ],
)
def test_zero_replicas_are_no_break_even(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(**changes))
    even = answered("-f", path, "--demand", 14, *PRICES)["breakEven"]
    assert even["arrival_rate"] > 1.0
    assert answered("-f", path, "--demand", 0, *PRICES)["breakEven"]["arrival_rate"] == even["arrival_rate"]


def test_without_a_price_the_own_fleet_is_never_dearer(tmp_path: Path) -> None:
    free = {**ACCELERATOR, "spec": {**ACCELERATOR["spec"], "pricePerHour": "0"}}
    path = written(tmp_path, free, manifest())
    assert answered("-f", path, "--demand", 5, *PRICES)["breakEven"]["arrival_rate"] == 0.0


def test_a_fleet_that_begins_on_free_accelerators_is_never_dearer(tmp_path: Path) -> None:
    """A free accelerator carries what it can; the paid ones beyond it cost less than the API does for the whole."""
    free = {"metadata": {"name": "own"}, "spec": {**ACCELERATOR["spec"], "pricePerHour": "0", "capacity": 1}}
    tiers = [{"name": name, "accelerator": class_} for name, class_ in (("owned", "own"), ("rented", "h100"))]
    path = written(tmp_path, ACCELERATOR, {**ACCELERATOR, **free}, manifest(tiers=tiers))
    assert own_usd(path, 30) > 0
    assert answered("-f", path, "--demand", 30, *PRICES)["breakEven"]["arrival_rate"] == 0.0


@pytest.mark.parametrize("price", [0, 0.000001])
def test_an_api_that_costs_next_to_nothing_is_never_beaten(chat: Path, price: float) -> None:
    result = run("-f", chat, "--demand", 5, "--api-price-in", price, "--api-price-out", price)
    assert "no demand above which this deployment stays cheaper" in result.stdout


def test_schedules_are_looked_at_at_the_time_asked_for(tmp_path: Path) -> None:
    night = {"name": "night", "cron": "0 22 * * *", "timeZone": "UTC", "durationSeconds": 28800, "minReplicas": 5}
    path = written(tmp_path, ACCELERATOR, manifest(schedules=[night]))
    assert total(answered("-f", path, "--demand", 1, "--at", "2026-03-02T23:00:00")) == 5
    assert total(answered("-f", path, "--demand", 1, "--at", "2026-03-02T12:00:00")) < 5


def test_the_same_question_has_the_same_answer(chat: Path) -> None:
    asked = ("-f", chat, "--demand", 14, "--at", "2026-03-02T12:00:00", "--output", "json")
    assert run(*asked).stdout == run(*asked).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param((), 1, "-f MANIFEST", id="nothing asked"),
        pytest.param(("-f", "{chat}"), 1, "--demand for prod/chat", id="no demand"),
        pytest.param(
            ("-f", "{chat}", "--demand", "lots"), 1, "--demand: invalid value 'lots'", id="a demand that is a word"
        ),
        pytest.param(("-f", "{chat}", "--demand", "-3"), 1, "requests/s, 0 or more", id="a negative demand"),
        pytest.param(("-f", "{chat}", "--demand", "nan"), 1, "requests/s, 0 or more", id="a demand that is no number"),
        pytest.param(("-f", "{chat}", "--demand", "video=3"), 1, "chat=RPS", id="a deployment that is not there"),
        pytest.param(
            ("-f", "{chat}", "--demand", "chat=3", "--demand", "prod/chat=5"),
            1,
            "prod/chat already has a demand",
            id="two demands for one",
        ),
        pytest.param(("-f", "{chat}", "--demand", "3", "--prompt-tokens", "0"), 1, "--prompt-tokens", id="no tokens"),
        pytest.param(
            ("-f", "{chat}", "--demand", "3", "--api-price-in", "1"), 1, "must be given together", id="half of a price"
        ),
        pytest.param(
            ("-f", "{chat}", "--demand", "3", "--api-price-in", "-1", "--api-price-out", "1"),
            1,
            "--api-price-in",
            id="a negative price",
        ),
        pytest.param(
            ("-f", "{chat}", "--demand", "3", "--output-tokens", "9", "--prometheus", "http://127.0.0.1:1"),
            1,
            "--demand, --output-tokens: not with --prometheus",
            id="two demands",
        ),
        pytest.param(
            ("-f", "{chat}", "--demand", "3", "--prometheus-token-file", "{chat}"),
            1,
            "--prometheus-token-file: only with --prometheus",
            id="a token for nobody",
        ),
        pytest.param(
            ("--stream", "-f", "{chat}", "--output", "json"),
            1,
            "--filename, --output: not with --stream",
            id="a stream and a manifest",
        ),
        pytest.param(
            ("-f", "{chat}", "--prometheus", "http://[::1"), 1, "must be http://HOST", id="an address that is none"
        ),
        pytest.param(
            ("-f", "{chat}", "--prometheus", "prometheus:9090"), 1, "must be http://HOST", id="an address without http"
        ),
        pytest.param(
            ("-f", "{chat}", "--prometheus", "ftp://prometheus"), 1, "must be http://HOST", id="another protocol"
        ),
        pytest.param(
            ("-f", "{chat}", "--prometheus", "http://:9090"), 1, "must be http://HOST", id="an address without a host"
        ),
        pytest.param(
            ("-f", "{chat}", "--prometheus", "http://prometheus:0"), 1, "must be http://HOST", id="a port of zero"
        ),
        pytest.param(("--demnad", "3"), 1, "--demnad", id="an option that does not exist"),
        pytest.param(("-f", "{chat}", "--prometheus", "http://127.0.0.1:1"), 1, "prometheus", id="nobody answers"),
        pytest.param(("-f", "missing.yaml", "--demand", "3"), 1, "missing.yaml", id="a file that is not there"),
    ],
)
def test_a_wrong_question_says_what_to_change(chat: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    result = run(*[argument.replace("{chat}", str(chat)) for argument in arguments])
    assert result.exit_code == code
    assert told in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        pytest.param([ACCELERATOR], "InferenceDeployment", id="no deployment"),
        pytest.param([manifest()], "spec.tiers[0].accelerator: invalid value 'h100'", id="no accelerator class"),
        pytest.param(
            [ACCELERATOR, manifest(tiers=[spec()["tiers"][0] | {"accelerator": "abacus"}])],
            "must be an AcceleratorClass in the manifests: h100",
            id="another accelerator class",
        ),
        pytest.param([ACCELERATOR, manifest(maxReplicas="many")], "maxReplicas", id="a bound that is a word"),
        pytest.param([ACCELERATOR, manifest(maxRepilcas=3)], "maxRepilcas", id="a field that does not exist"),
        pytest.param([ACCELERATOR, manifest(maxReplicas="3")], "maxReplicas", id="a bound that is text"),
        pytest.param([ACCELERATOR, manifest(mode=False)], "quote it", id="a mode that YAML reads as a switch"),
        pytest.param(
            [ACCELERATOR, manifest() | {"metadata": {"name": "chat", "labels": {"canary": True}}}],
            "metadata.labels.canary: invalid value True: must be a valid string",
            id="a label that YAML reads as a switch",
        ),
    ],
)
def test_a_wrong_manifest_says_what_to_change(tmp_path: Path, documents: list[object], told: str) -> None:
    result = run("-f", written(tmp_path, *documents), "--demand", 3)
    assert result.exit_code == 1
    assert told in result.output


def test_requests_longer_than_a_server_takes_are_no_promise_kept(tmp_path: Path) -> None:
    workload = {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len", "8192"]}
    path = written(
        tmp_path, ACCELERATOR, manifest(tiers=[{"name": "bf16", "accelerator": "h100", "workload": workload}])
    )
    result = run("-f", path, "--demand", 1, "--prompt-tokens", 16000)
    assert result.exit_code == 1
    assert (
        "invalid value '16256': must be at most 8192 together: --max-model-len of prod/chat, tier bf16" in result.output
    )
    assert run("-f", path, "--demand", 1, "--prompt-tokens", 7000).exit_code == 0


def test_an_object_in_two_files_is_told(chat: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(manifest()))
    result = run("-f", chat, "-f", again, "--demand", 3)
    assert result.exit_code == 1
    assert "again.yaml: InferenceDeployment chat: metadata.name" in result.output
    assert f"already defined in {chat}" in result.output


def test_a_file_that_is_named_twice_is_read_once(chat: Path, tmp_path: Path) -> None:
    assert run("-f", chat, "-f", tmp_path, "--demand", 3).exit_code == 0


def piped(text: bytes, *arguments: object) -> Result:
    """`tidegate plan -f -` with this text on standard input."""
    return CliRunner().invoke(command, ["-f", "-", *map(str, arguments)], input=text)


def test_a_pipeline_gives_the_manifests_on_standard_input(chat: Path) -> None:
    whole = piped(chat.read_bytes(), "--demand", 14)
    assert whole.exit_code == 0, whole.output
    assert whole.stdout == run("-f", chat, "--demand", 14).stdout
    classes, deployments = chat.read_bytes().split(b"---\n")
    (chat.parent / "classes.yaml").write_bytes(classes)
    halves = piped(deployments, "-f", chat.parent / "classes.yaml", "-f", "-", "--demand", 14)
    assert halves.stdout == whole.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(b"", "must contain an InferenceDeployment", id="nothing"),
        pytest.param(b"\xff", "standard input: must be readable UTF-8", id="no UTF-8"),
        pytest.param(
            yaml.safe_dump(manifest(maxReplicas="3")).encode(),
            "standard input: InferenceDeployment chat: spec.maxReplicas",
            id="a bound that is text",
        ),
    ],
)
def test_what_is_wrong_on_standard_input_is_told(text: bytes, told: str) -> None:
    result = piped(text, "--demand", 3)
    assert result.exit_code == 1
    assert told in result.output


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_full_disk_is_told_in_one_line(chat: Path, output: str) -> None:
    with FULL.open("wb") as full:
        code, said = process(full, "-f", chat, "--demand", 14, "--output", output)
    assert (code, said) == (1, "Error: the output cannot be written: No space left on device\n")


def test_letters_that_the_output_cannot_show_are_told_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(model="模型/Llama-3.1-8B-Instruct"))
    code, said = process(subprocess.DEVNULL, "-f", path, "--demand", 14, PYTHONIOENCODING="latin-1")
    assert (code, said.count("\n")) == (1, 1)
    assert "latin-1, has no '\\u6a21\\u578b': set PYTHONIOENCODING=utf-8" in said


def process(stdout: Any, *arguments: object, **env: str) -> tuple[int, str]:
    """Exit code and standard error of `tidegate plan` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "plan", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""} | env,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


class Answers(PrometheusHandler):
    """A Prometheus that knows one model: 12 req/s of 800 prompt and 300 output tokens, for as long as it remembers."""

    def series(self, form: dict[str, list[str]], *, points: bool) -> list[dict[str, object]]:
        query = form["query"][0]
        value = "800" if "prompt_tokens_sum" in query else "300" if "generation_tokens_sum" in query else "12"
        if 'model_name="meta-llama/Llama-3.1-8B-Instruct"' not in query:
            return []
        if not points:
            return [{"metric": {}, "value": [1.0, value]}]
        start, end = float(form["start"][0]), float(form["end"][0])
        return [{"metric": {}, "values": [[start + i * 300, value] for i in range(int((end - start) / 300) + 1)]}]


@pytest.fixture
def prometheus() -> Iterator[str]:
    with serving(Answers) as url:
        yield url


def test_demand_and_shape_are_read_from_prometheus(chat: Path, prometheus: str) -> None:
    plan = answered("-f", chat, "--prometheus", prometheus)
    assert plan["demand"] == {"arrival_rate": 12.0, "prompt_tokens": 800.0, "output_tokens": 300.0}
    assert plan["forecast"]["arrival_rate"] >= 12.0
    assert plan["promisesKept"] is True


def test_two_deployments_of_one_model_do_not_both_get_its_load(tmp_path: Path, prometheus: str) -> None:
    path = written(tmp_path, ACCELERATOR, manifest("chat"), manifest("batch"))
    result = run("-f", path, "--prometheus", prometheus)
    assert result.exit_code == 1
    assert "prod/chat and prod/batch" in result.output


def test_a_model_that_prometheus_does_not_know_is_named(tmp_path: Path, prometheus: str) -> None:
    path = written(tmp_path, ACCELERATOR, manifest(model="Qwen/Qwen3-32B"))
    result = run("-f", path, "--prometheus", prometheus)
    assert result.exit_code == 1
    assert "Qwen/Qwen3-32B" in result.output
