"""The Flux examples: everything that they depend on exists, and Helm accepts their values."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import by_kind, render

FOLDER = Path(__file__).resolve().parents[2] / "gitops" / "flux"
# These are there wherever Flux is (`flux bootstrap` of the repository `platform`).
GIVEN = {("Namespace", "flux-system"), ("GitRepository", "platform")}


def objects_in(folder: Path) -> list[dict[str, Any]]:
    return [each for file in sorted(folder.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())]


WATCHED, OPERATOR = objects_in(FOLDER), objects_in(FOLDER / "tidegate")
ALL = [*WATCHED, *OPERATOR]
NAMES = {(each["kind"], each["metadata"]["name"]) for each in ALL}


def test_every_file_is_read_here() -> None:
    assert {file.parent for file in FOLDER.rglob("*.*")} == {FOLDER, FOLDER / "tidegate"}


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_the_namespace_of_every_object_is_made_by_somebody(each: dict[str, Any]) -> None:
    namespace = each["metadata"].get("namespace", "flux-system")
    assert ("Namespace", namespace) in NAMES | GIVEN


def test_a_kustomization_waits_for_kustomizations_only() -> None:
    """`dependsOn` has no kind: it always refers to a Kustomization."""
    (inference,) = (each for each in WATCHED if each["metadata"]["name"] == "inference")
    assert inference["spec"]["dependsOn"] == [{"name": "tidegate"}]
    assert {("Kustomization", wanted["name"]) for wanted in inference["spec"]["dependsOn"]} <= NAMES
    (first,) = (each for each in WATCHED if each["metadata"]["name"] == "tidegate")
    assert first["spec"]["wait"] is True, "it is ready when the HelmRelease in it is"
    assert (FOLDER / first["spec"]["path"]).is_dir()


def test_every_source_is_there() -> None:
    sources = [each["spec"]["sourceRef"] for each in WATCHED]
    sources += [each["spec"]["chart"]["spec"]["sourceRef"] for each in by_kind(OPERATOR, "HelmRelease")]
    assert {(source["kind"], source["name"]) for source in sources} <= NAMES | GIVEN


@pytest.mark.cluster
def test_the_values_are_values_of_the_chart(tmp_path: Path) -> None:
    (release,) = by_kind(OPERATOR, "HelmRelease")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(release["spec"]["values"]))
    kinds = {each["kind"] for each in render("--values", str(tmp_path / "values.yaml"))}
    assert {"Deployment", "ServiceMonitor", "PrometheusRule"} <= kinds
