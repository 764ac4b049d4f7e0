"""Every example is accepted by the models and the API server, and can be planned without a cluster."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.cluster import install_crds
from tests.docs.test_commands import find_option_errors
from tidegate.api import manifests
from tidegate.cli import main
from tidegate.sandbox.control_plane import RealControlPlane

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CLASSES = EXAMPLES / "accelerators.yaml"
FILES = sorted(path for path in EXAMPLES.glob("*.yaml") if path != CLASSES)
# Deployments that share a file get the same demand; requests/s, prompt and output tokens.
DEMAND = {"nightly": 2.0, "assistant": 3.0, "frontline": 2.0, "coder": 1.0}


def objects(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


@pytest.mark.parametrize("path", [CLASSES, *FILES], ids=lambda p: p.name)
def test_an_example_is_valid(path: Path) -> None:
    loaded = manifests.load(path)
    assert len(loaded.deployments) + len(loaded.accelerators) == len(objects(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_an_example_is_planned_and_keeps_its_promise(path: Path) -> None:
    names = list(manifests.load(path).deployments)
    asked = [f"--demand={key.name}={DEMAND.get(key.name, 6.0)}" for key in names]
    arguments = ["plan", "-f", str(CLASSES), "-f", str(path), *asked, "--prompt-tokens=800", "--output-tokens=200"]
    result = CliRunner().invoke(main, [*arguments, "--output", "json"])
    assert result.exit_code == 0, result.output
    planned = json.loads(result.output)
    assert len(planned["deployments"]) == len(names)
    for deployment in planned["deployments"]:
        assert sum(tier["replicas"] for tier in deployment["tiers"].values()) > 0


def test_examples_start_in_recommend_mode_so_that_nothing_moves_unasked() -> None:
    modes = {o["metadata"]["name"]: o["spec"]["mode"] for p in FILES for o in objects(p) if "tiers" in o["spec"]}
    assert set(modes.values()) == {"Recommend"}


@pytest.mark.parametrize("path", sorted((ROOT / "gitops").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_gitops_file_is_yaml(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text()))


def test_the_pipeline_calls_commands_that_exist() -> None:
    text = (ROOT / "gitops" / "pipeline" / "plan-on-pull-request.yaml").read_text()
    (line,) = re.findall(r"tidegate (plan [^|\n]+)", text)
    arguments = shlex.split(line.replace("inference/", str(EXAMPLES)))
    assert find_option_errors(arguments) == ""


def test_the_pipeline_runs_for_the_files_that_it_plans(tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / "gitops" / "pipeline" / "plan-on-pull-request.yaml").read_text())
    (pattern,) = workflow[True]["pull_request"]["paths"]  # YAML reads a bare `on` as true
    watched = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    names = ["inference/chat.yaml", "inference/team/chat.yaml", "inference/notes.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    planned = manifests.files(tmp_path / "inference")
    assert [tmp_path / name for name in names if re.fullmatch(watched, name)] == planned


@pytest.mark.slow
@pytest.mark.parametrize(("itl_ms", "code"), [(40, 0), (1, 2)], ids=["promises are kept", "they cannot be"])
def test_the_pipelines_check_fails_where_the_promises_cannot_be_kept(tmp_path: Path, itl_ms: int, code: int) -> None:
    """The step as a runner runs it: with a pipe behind the command whose exit code counts."""
    workflow = yaml.safe_load((ROOT / "gitops" / "pipeline" / "plan-on-pull-request.yaml").read_text())
    (step,) = [each for each in workflow["jobs"]["plan"]["steps"] if each.get("name") == "Plan"]
    flags = ["--noprofile", "--norc", "-eo", "pipefail"] if step.get("shell") == "bash" else ["-e"]
    folder = tmp_path / "inference"
    folder.mkdir()
    (folder / "classes.yaml").write_text(CLASSES.read_text())
    (chat,) = objects(EXAMPLES / "llama-3.1-8b-h100.yaml")
    chat["spec"]["slo"]["itlMilliseconds"] = itl_ms
    (folder / "chat.yaml").write_text(yaml.safe_dump(chat))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", *flags, "-c", step["run"]],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "plan.md").read_text().startswith("## prod/chat")


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="session")
async def test_a_real_api_server_takes_every_example(real_control_plane: RealControlPlane) -> None:
    async with real_control_plane.admin.session() as server:
        await install_crds(server)
        found = [o for path in [CLASSES, *FILES] for o in objects(path)]
        for name in {o["metadata"]["namespace"] for o in found if "namespace" in o["metadata"]}:
            async with server.post("/api/v1/namespaces", json={"metadata": {"name": name}}) as answer:
                assert answer.status in (201, 409)
        verdicts = await asyncio.gather(*(dry_run(server, o) for o in found))
        assert [v for v in verdicts if v] == []


async def dry_run(server: Any, item: dict[str, Any]) -> str:
    """What the server says against applying an object, which may be there already; empty where it takes it."""
    plural = {"AcceleratorClass": "acceleratorclasses", "InferenceDeployment": "inferencedeployments"}[item["kind"]]
    name, namespace = item["metadata"]["name"], item["metadata"].get("namespace")
    scope = f"/namespaces/{namespace}" if namespace else ""
    path = f"/apis/{item['apiVersion']}{scope}/{plural}/{name}"
    asked = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "examples", "force": "true"}
    kind = {"Content-Type": "application/apply-patch+yaml"}
    async with server.patch(path, data=json.dumps(item), params=asked, headers=kind) as answer:
        return "" if answer.status in (200, 201) else f"{name}: {await answer.text()}"
