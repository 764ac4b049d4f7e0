"""`--prometheus` of the commands without a cluster: the same access as the operator has."""

import json
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner

from tests.cli.test_plan_people import ACCELERATOR, manifest, written
from tidegate.cli import main


class Shared(BaseHTTPRequestHandler):
    """A server of several teams and clusters, without any series; keeps headers and queries."""

    asked: ClassVar[list[tuple[dict[str, str], str]]] = []

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append((dict(self.headers), form["query"][0]))
        kind = "matrix" if self.path.endswith("query_range") else "vector"
        body = json.dumps({"status": "success", "data": {"resultType": kind, "result": []}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def shared() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shared)
    Shared.asked.clear()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", ["plan", "backtest"])
def test_tenant_password_and_cluster_are_those_that_were_given(command: str, shared: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    path = written(tmp_path, ACCELERATOR, manifest("chat"))
    options = (
        *("--prometheus", shared, "--prometheus-headers", "X-Scope-OrgID: team"),
        *("--prometheus-user", "me", "--prometheus-password-file", str(password)),
        *("--prometheus-matchers", "cluster=eu-1", "--prometheus-namespace-label", "ns"),
    )
    result = CliRunner().invoke(main, [command, "-f", str(path), *options])
    assert result.exit_code == 1
    assert "NoSeries" in result.output
    headers, query = Shared.asked[0]
    assert headers["X-Scope-OrgID"] == "team"
    assert headers["Authorization"] == "Basic " + b64encode(b"me:open sesame").decode()
    assert query.count('cluster="eu-1"') == query.count("model_name=") == query.count('ns="prod"') > 0


@pytest.mark.parametrize("command", ["plan", "backtest"])
def test_a_pipeline_may_set_them_by_environment(command: str, shared: str, tmp_path: Path) -> None:
    path = written(tmp_path, ACCELERATOR, manifest("chat"))
    environment = {"TIDEGATE_PROMETHEUS_MATCHERS": "cluster=eu-1"}
    CliRunner(env=environment).invoke(main, [command, "-f", str(path), "--prometheus", shared])
    assert 'cluster="eu-1"' in Shared.asked[0][1]


@pytest.mark.parametrize("command", ["plan", "backtest"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--prometheus-matchers", "cluster"), "--prometheus-matchers", id="a matcher without a value"),
        pytest.param(("--prometheus-user", "me"), "together with a password file", id="half of a login"),
    ],
)
def test_wrong_access_names_the_option(
    command: str, options: tuple[str, ...], said: str, shared: str, tmp_path: Path
) -> None:
    path = written(tmp_path, ACCELERATOR, manifest("chat"))
    result = CliRunner().invoke(main, [command, "-f", str(path), "--prometheus", shared, *options])
    assert result.exit_code == 1
    assert said in result.output
    assert Shared.asked == []
