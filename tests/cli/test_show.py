"""Output of `tidegate explain`, `tidegate top` and `tidegate crds`."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner
from kubernetes.aio.config import kube_config
from rich.console import Console, RenderableType

from tests.actuate.orders import H100
from tests.api.manifests import GOOD, changed
from tests.report.reports import Alternative, Constraint, decision, observation, reading, report
from tidegate.api import crd
from tidegate.api.convert import is_paused
from tidegate.cli import main
from tidegate.cli.explain import explanation
from tidegate.cli.top import overview
from tidegate.domain.decision import Condition, Reason, Status
from tidegate.domain.observation import DeploymentObservation, TierState
from tidegate.report.status import deployment_status
from tidegate.runtime import kube

RISING = decision(
    Reason.DEMAND_RISING,
    "forecast 14.2 req/s (p90, 150 s ahead) needs 2 x fp8: $6.00/h [soon]",
    uncapped={"fp8": 3},
    binding=Constraint.BUDGET,
    alternatives=(Alternative(replicas={"bf16": 3}, usd_per_hour=9.0, attainment=0.999, why_not="costs $3.00/h more"),),
)


def resource(name: str = "chat", **more: Any) -> dict[str, Any]:
    manifest = changed(GOOD, {"metadata.name": name, "metadata.namespace": "prod"})
    return manifest | {"status": deployment_status(report(**({"decision": RISING} | more)))}


def shown(*parts: RenderableType) -> str:
    console = Console(width=200, highlight=False, markup=False, soft_wrap=True)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_explain_tells_the_whole_story() -> None:
    text = shown(*explanation(resource()))
    assert text == (
        "prod/chat  meta-llama/Llama-3.1-8B-Instruct  mode Auto\n"
        "promise   99% of requests within TTFT 500 ms and ITL 40 ms\n"
        "measured  100.0% met both targets, 10 good req/s, TTFT p95 477 ms, ITL p95 39 ms\n"
        "cost      $6.00/h, $0.833 per million tokens, $0.833 per million good tokens, 0.3 J per token\n"
        "decision  DemandRising at 2026-11-18T11:06:40Z\n"
        "          forecast 14.2 req/s (p90, 150 s ahead) needs 2 x fp8: $6.00/h [soon]\n"
        "limit     Budget; without limits: 3 fp8\n"
        "TIER  ACCELERATOR      QUALITY  DESIRED  READY  STARTING  REQ/S EACH  START-UP\n"
        "bf16  2 x nvidia-h100  1              0      0         0           8     120 s\n"
        "fp8   1 x nvidia-h100  0.98           2      2         0          12     100 s\n"
        "\n"
        "ALTERNATIVE   $/H  ATTAINMENT  WHY NOT\n"
        "3 bf16       9.00       0.999  costs $3.00/h more\n"
        "\n"
        "WithinBudget=Unknown  NotPlanned: not planned yet\n"
        "MetricsAvailable=Unknown  NotPlanned: not planned yet\n"
        "CapacityAvailable=Unknown  NotPlanned: not planned yet"
    )


def test_the_name_of_a_model_cannot_steer_the_terminal() -> None:
    strange = resource()
    strange["spec"]["model"] = "a\x1b[2Jb\x9b1mc ü"
    assert r"prod/chat  a\x1b[2Jb\x9b1mc ü  mode Auto" in shown(*explanation(strange))


def test_explain_states_the_promise_as_it_was_made() -> None:
    strict = resource()
    strict["spec"]["slo"]["attainment"] = "0.9995"
    assert "promise   99.95% of requests" in shown(*explanation(strict))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"accelerators": {}}, "Stalled=True  UnknownAccelerator", id="a class is missing"),
        pytest.param(
            {"observation": observation(seen=reading(good=0.5))}, "SLOMet=False  Missed", id="a promise is broken"
        ),
        pytest.param({"decision": None}, "Ready=Unknown  NotPlanned", id="there is no plan"),
    ],
)
def test_explain_names_abnormal_conditions(more: dict[str, Any], words: str) -> None:
    assert words in shown(*explanation(resource(**more)))


def test_explain_shows_a_tier_that_left_the_spec_while_it_serves_and_costs() -> None:
    shown_ = resource()
    shown_["status"]["tiers"].append({"name": "int4", "desired": 0, "ready": 3, "starting": 0})
    (line,) = [line for line in shown(*explanation(shown_)).splitlines() if line.startswith("int4")]
    assert line.split() == ["int4", "not", "in", "the", "spec", "?", "0", "3", "0", "?", "?"]


def test_explain_says_which_replicas_fail() -> None:
    failing = DeploymentObservation(tiers={"fp8": TierState(starting=2, failing=1, trouble="ImagePullBackOff: x")})
    assert "2 (1 failing)" in shown(*explanation(resource(observation=failing)))


def test_explain_reports_no_findings_when_all_is_well() -> None:
    well = tuple(
        Condition(type=kind, status=status, reason="Planned", message="m")
        for kind, status in (
            ("SLOMet", Status.TRUE),
            ("WithinBudget", Status.TRUE),
            ("MetricsAvailable", Status.TRUE),
            ("CapacityAvailable", Status.TRUE),
            ("QualityReduced", Status.FALSE),
            ("ScalingLimited", Status.FALSE),
        )
    )
    text = shown(*explanation(resource(decision=decision(Reason.INITIAL, "m", conditions=well))))
    assert text.endswith("all conditions are good")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        pytest.param(Status.TRUE, "measured  no requests lately", id="quiet"),
        pytest.param(Status.FALSE, "measured  nothing: no metrics", id="silent"),
        pytest.param(Status.UNKNOWN, "measured  nothing yet", id="new"),
    ],
)
def test_explain_says_why_nothing_is_measured(state: Status, text: str) -> None:
    heard = Condition(type="MetricsAvailable", status=state, reason="Fresh", message="m")
    silent = observation(ready=1, seen=None)
    made = decision(Reason.STEADY, "m", conditions=(heard,))
    assert text in shown(*explanation(resource(decision=made, observation=silent))).splitlines()


def test_explain_without_a_status_says_so() -> None:
    manifest = changed(GOOD, {"metadata.namespace": "prod"})
    text = shown(*explanation(manifest))
    assert "measured  nothing yet" in text
    assert "decision  none yet" in text
    assert text.endswith("no status yet")


def test_top_has_a_line_per_deployment_and_a_total() -> None:
    other = resource("code", observation=observation(ready=1, seen=reading(good=0.5)))
    lines = shown(overview([resource(), other])).splitlines()
    assert lines[0].split() == [
        *(
            "DEPLOYMENT",
            "TIERS",
            "UP",
            "GOOD",
            "REQ/S",
            "MET",
            "TTFT",
            "P95",
            "ITL",
            "P95",
            "GPU",
            "$/H",
            "$/M",
            "TOK",
            "REASON",
        )
    ]
    assert " ".join(lines[1].split()) == "prod/chat 2 fp8 2/2 10 100.0% 477 ms 39 ms 80% 6.00 0.833 DemandRising"
    assert lines[2].startswith("prod/code")
    assert lines[3].split() == ["total", "3", "9.00"]


IN_EUROS = {"accelerators": {"nvidia-h100": replace(H100, currency="EUR")}}


def test_amounts_are_in_the_currency_of_the_classes() -> None:
    text = shown(*explanation(resource(**IN_EUROS)))
    assert "cost      6.00 EUR/h, 0.833 EUR per million tokens" in text
    assert "ALTERNATIVE  EUR/H" in text
    lines = shown(overview([resource(**IN_EUROS), resource("code", **IN_EUROS)])).splitlines()
    assert "EUR/H" in lines[0]
    assert lines[3].split() == ["total", "4", "12.00"]


def test_currencies_are_never_added_up() -> None:
    lines = shown(overview([resource(**IN_EUROS), resource("code")])).splitlines()
    assert "COST/H" in lines[0]
    assert "6.00 EUR" in lines[1]
    assert "$6.00" in lines[2]
    assert lines[3].split() == ["total", "4"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param(["top"], "prod/summaries-of-long-documents", id="top"),
        pytest.param(["explain", "prod/chat"], "2 x nvidia-h100-80gb-hbm3-reserved-europe-west4", id="explain"),
    ],
)
def test_a_narrow_terminal_truncates_no_name(command: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = resource("summaries-of-long-documents")
    there["spec"]["tiers"][0]["accelerator"] = "nvidia-h100-80gb-hbm3-reserved-europe-west4"
    monkeypatch.setattr("tidegate.cli.top.read", lambda _path, **_: {"items": [there]})
    monkeypatch.setattr("tidegate.cli.explain.read", lambda _path, **_: there)
    result = CliRunner().invoke(main, command, env={"COLUMNS": "60"})
    assert name in result.output
    assert "DemandRising" in result.output


def test_top_of_what_has_no_status_yet() -> None:
    (_, line) = shown(overview([changed(GOOD, {"metadata.namespace": "prod"})])).splitlines()
    assert line.split() == ["prod/chat", "?", "?/?", *"-------", "-"]


def test_crds_prints_what_kubectl_can_apply() -> None:
    result = CliRunner().invoke(main, ["crds"])
    documents = list(yaml.safe_load_all(result.output))
    assert [d["metadata"]["name"] for d in documents] == [n.removesuffix(".yaml") for n in crd.files()]


def test_crds_writes_a_file_each(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["crds", "--write", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert {p.name: p.read_text() for p in (tmp_path / "new").iterdir()} == crd.files()


def test_crds_prints_the_reference() -> None:
    assert CliRunner().invoke(main, ["crds", "--docs"]).output.startswith("# API reference")


def kubeconfig_text(cluster: dict[str, str]) -> str:
    contexts = [
        {"name": "x", "context": {"cluster": "x", "user": "x"}},
        {"name": "y", "context": {"cluster": "x", "user": "x", "namespace": "batch"}},
    ]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": contexts,
            "clusters": [{"name": "x", "cluster": cluster}],
            "users": [{"name": "x", "user": {}}],
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("clusters:\n\t- name: x\n", id="a tab"),
        pytest.param(kubeconfig_text({"server": "https://x", "certificate-authority-data": "a"}), id="no base64"),
        pytest.param(
            kubeconfig_text({"server": "https://x", "certificate-authority-data": "YQ=="}), id="no certificate"
        ),
    ],
)
def test_an_invalid_kubeconfig_gives_a_clear_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    result = CliRunner().invoke(main, ["top", "--kubeconfig", str(path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: kubeconfig: invalid value '{path}': no usable kubeconfig")


def kubeconfig(folder: Path, server: str) -> str:
    path = folder / "config"
    path.write_text(kubeconfig_text({"server": server}))
    return str(path)


COMMANDS = [["explain", "prod/chat"], ["top"], ["pause", "prod/chat"], ["resume", "prod/chat"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_an_unreachable_cluster_gives_a_clear_error(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*command, "--kubeconfig", kubeconfig(tmp_path, "http://127.0.0.1:9")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: kubernetes: Unreachable:")


DEAR = resource("dear", observation=observation(ready=3, seen=reading()))
POOR = resource("poor", observation=observation(ready=1, seen=reading(good=0.5)))
NEW = changed(GOOD, {"metadata.name": "new", "metadata.namespace": "prod"})


class ApiServer(BaseHTTPRequestHandler):
    """Holds three deployments, and keeps what it was asked."""

    asked: ClassVar[list[tuple[str, str, Any]]] = []

    def answer(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        self.asked.append((self.command, urlsplit(self.path).path, json.loads(self.rfile.read(length) or "null")))
        body = json.dumps(DEAR if self.path.endswith("/dear") else {"items": [POOR, NEW, DEAR]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PATCH = answer

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Cluster:
    """An API server, and how to ask it."""

    def __init__(self, path: str) -> None:
        self.path, self.asked = path, ApiServer.asked

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments, "--kubeconfig", self.path])
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    ApiServer.asked.clear()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Cluster(kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_port}"))
    server.shutdown()
    thread.join()
    server.server_close()


GROUP_PATH = "/apis/tidegate.io/v1alpha1"


@pytest.mark.parametrize(
    ("kind", "body", "hints"),
    [
        pytest.param("text/plain", "404 page not found\n", True, id="nothing of Tidegate is installed"),
        pytest.param(
            "application/json", '{"reason": "NotFound", "message": "\\"chat\\" not found"}', False, id="an object"
        ),
    ],
)
def test_what_is_missing_is_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, kind: str, body: str, hints: bool
) -> None:
    def answer(request: ApiServer) -> None:
        request.send_response(404)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body.encode())

    monkeypatch.setattr(ApiServer, "do_GET", answer)
    result = CliRunner().invoke(main, ["explain", "prod/chat", "--kubeconfig", cluster.path])
    assert result.exit_code == 1
    assert "not found" in result.output
    assert ("tidegate crds | kubectl apply" in result.output) is hints


def test_a_pause_is_the_annotation_that_the_operator_reads_and_resume_takes_it_away(cluster: Cluster) -> None:
    assert cluster.run("pause", "prod/dear") == "prod/dear is paused\n"
    assert cluster.run("resume", "prod/dear") == "prod/dear is resumed\n"
    path = f"{GROUP_PATH}/namespaces/prod/inferencedeployments/dear"
    assert [(method, asked) for method, asked, _ in cluster.asked] == [("PATCH", path)] * 2
    paused, resumed = (body["metadata"]["annotations"] for _, _, body in cluster.asked)
    assert is_paused(paused)
    assert resumed == dict.fromkeys(paused)


def test_a_context_means_the_kubeconfig_even_in_a_pod(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline's job runs in a pod, which has a service account in the pipeline's own cluster."""

    def own_cluster(client_configuration: Any) -> None:
        client_configuration.host = "http://127.0.0.1:9"

    monkeypatch.setattr(kube, "load_incluster_config", own_cluster)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", cluster.path)
    result = CliRunner().invoke(main, ["pause", "prod/dear", "--context", "x"])
    assert result.exit_code == 0, result.output
    assert [method for method, _, _ in cluster.asked] == ["PATCH"]


@pytest.mark.parametrize("name", ["", "/", "prod/", "/chat", "a/b/c"])
def test_an_invalid_name_is_wrong_usage(name: str) -> None:
    result = CliRunner().invoke(main, ["pause", name])
    assert result.exit_code == 2
    assert f"{name!r} is not [NAMESPACE/]NAME" in result.output


@pytest.mark.parametrize(
    ("arguments", "namespace"),
    [
        pytest.param(["dear"], "default", id="a context without a namespace"),
        pytest.param(["dear", "--context", "y"], "batch", id="that of the context"),
        pytest.param(["dear", "--context", "y", "-n", "prod"], "prod", id="the option"),
        pytest.param(["prod/dear", "--context", "y"], "prod", id="the name"),
        pytest.param(["prod/dear", "-n", "prod"], "prod", id="twice the same"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "pause", "resume"])
def test_a_name_is_in_the_namespace_that_kubectl_would_use(
    cluster: Cluster, command: str, arguments: list[str], namespace: str
) -> None:
    cluster.run(command, *arguments)
    assert cluster.asked[0][1] == f"{GROUP_PATH}/namespaces/{namespace}/inferencedeployments/dear"


def test_in_a_pod_a_name_is_in_the_namespace_of_the_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted = tmp_path / "namespace"
    mounted.write_text("jobs\n")
    monkeypatch.setattr(kube, "POD_NAMESPACE", mounted)
    assert kube.default_namespace(None) == "jobs"
    assert kube.default_namespace(kubeconfig(tmp_path, "http://x"), "y") == "batch"


def test_a_context_that_was_named_needs_no_current_one(tmp_path: Path) -> None:
    """Teams leave it out so that nobody acts on the wrong cluster by accident."""
    path = tmp_path / "config"
    path.write_text(kubeconfig_text({"server": "http://x"}).replace('"current-context": "x", ', ""))
    assert kube.default_namespace(str(path), "y") == "batch"


def test_two_namespaces_are_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["pause", "prod/dear", "-n", "dev"])
    assert result.exit_code == 2
    assert "-n dev contradicts prod/dear" in result.output


def test_a_context_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:9")
    result = CliRunner().invoke(main, ["explain", "dear", "--kubeconfig", path, "--context", "z"])
    assert result.exit_code == 1
    assert "name z in" in result.output


@pytest.mark.parametrize(
    ("arguments", "scope"), [((), ""), (("-n", "prod"), "/namespaces/prod")], ids=["everywhere", "one namespace"]
)
def test_top_asks_for_what_is_to_be_shown(cluster: Cluster, arguments: tuple[str, ...], scope: str) -> None:
    cluster.run("top", *arguments)
    assert [asked for _, asked, _ in cluster.asked] == [f"{GROUP_PATH}{scope}/inferencedeployments"]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        pytest.param("name", ["dear", "new", "poor"], id="by name"),
        pytest.param("cost", ["dear", "poor", "new"], id="the dearest first"),
        pytest.param("attainment", ["poor", "dear", "new"], id="the worst first, and what nobody knows last"),
    ],
)
def test_top_is_sorted(cluster: Cluster, order: str, names: list[str]) -> None:
    lines = cluster.run("top", "--sort", order).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"prod/{name}" for name in names]
    rows = json.loads(cluster.run("top", "--sort", order, "-o", "json"))
    assert [row["name"] for row in rows] == names
    assert all(row["namespace"] == "prod" for row in rows)


def test_explain_as_json_is_the_status(cluster: Cluster) -> None:
    assert json.loads(cluster.run("explain", "prod/dear", "-o", "json")) == DEAR["status"]
