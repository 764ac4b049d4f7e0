"""`--prometheus` of the commands without a cluster: the same access as the operator has."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from tests.cli.test_plan_people import ACCELERATOR, manifest, written
from tests.prometheus_server import PrometheusHandler, serving
from tidegate.cli import main


class Shared(PrometheusHandler):
    """A server of several teams and clusters, without any series; keeps headers and queries."""

    asked: ClassVar[list[tuple[dict[str, str], str]]] = []

    def series(self, form: dict[str, list[str]], *, points: bool) -> list[dict[str, object]]:
        self.asked.append((dict(self.headers), form["query"][0]))
        return []


@pytest.fixture
def shared() -> Iterator[str]:
    Shared.asked.clear()
    with serving(Shared) as url:
        yield url


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
