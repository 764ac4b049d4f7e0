"""Argo CD's health checks in Lua, run by a real Lua on the test data that ships with them."""

from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from tests.report.reports import decision, observation, report
from tidegate.domain.decision import Condition, Status
from tidegate.report.status import deployment_status

FOLDER = Path(__file__).resolve().parents[2] / "gitops" / "argocd" / "tidegate.io" / "InferenceDeployment"
CASES = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]


def run_lua(path: Path, obj: dict[str, Any]) -> Any:
    """What the script returns with `obj` set, as plain Python values."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    return to_python(lua.execute(path.read_text()))


def to_python(value: Any) -> Any:
    if lupa.lua_type(value) != "table":
        return value
    return {key: to_python(item) for key, item in value.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_health_says_what_the_conditions_say(case: dict[str, Any]) -> None:
    obj = yaml.safe_load((FOLDER / case["inputPath"]).read_text())
    assert run_lua(FOLDER / "health.lua", obj) == case["healthStatus"]


STUCK = Condition(type="CapacityAvailable", status=Status.FALSE, reason="ReplicasStuck", message="fp8 does not start")


@pytest.mark.parametrize(
    ("more", "health"),
    [
        pytest.param({}, "Healthy", id="it serves"),
        pytest.param({"observation": observation(ready=0, starting=2)}, "Progressing", id="its first start"),
        pytest.param(
            {"observation": observation(ready=0, starting=2), "decision": decision(conditions=(STUCK,))},
            "Degraded",
            id="a first start that does not come",
        ),
        pytest.param({"accelerators": {}}, "Degraded", id="a class is missing"),
    ],
)
def test_health_of_what_the_operator_writes(more: dict[str, Any], health: str) -> None:
    obj = {"metadata": {"generation": 1}, "status": deployment_status(report(**more))}
    assert run_lua(FOLDER / "health.lua", obj)["status"] == health


def test_every_test_datum_is_used() -> None:
    assert {path.name for path in (FOLDER / "testdata").iterdir()} == {Path(c["inputPath"]).name for c in CASES}


def test_the_patch_of_argocds_settings_has_the_same_scripts() -> None:
    data = yaml.safe_load((FOLDER.parents[1] / "argocd-cm.yaml").read_text())["data"]
    kind = "tidegate.io_InferenceDeployment"
    assert data.keys() == {f"resource.customizations.{part}.{kind}" for part in ("health", "actions")}
    assert data[f"resource.customizations.health.{kind}"] == (FOLDER / "health.lua").read_text()
    actions = yaml.safe_load(data[f"resource.customizations.actions.{kind}"])
    assert actions["discovery.lua"] == (FOLDER / "actions" / "discovery.lua").read_text()
    scripts = {path.parent.name: path.read_text() for path in FOLDER.glob("actions/*/action.lua")}
    assert {each["name"]: each["action.lua"] for each in actions["definitions"]} == scripts


def test_pause_and_resume_undo_each_other() -> None:
    obj = {"metadata": {"name": "chat"}, "spec": {"mode": "Auto"}}
    paused = run_lua(FOLDER / "actions/pause/action.lua", obj)
    assert paused["metadata"]["annotations"] == {"tidegate.io/paused": "true"}
    resumed = run_lua(FOLDER / "actions/resume/action.lua", paused)
    assert resumed["metadata"]["annotations"] == {}


@pytest.mark.parametrize(
    ("annotations", "offered"),
    [({}, {"pause", "recommend-only"}), ({"tidegate.io/paused": "true"}, {"resume", "recommend-only"})],
    ids=["a running object can be paused", "a paused object can be resumed"],
)
def test_only_what_changes_something_is_offered(annotations: dict[str, str], offered: set[str]) -> None:
    actions = run_lua(
        FOLDER / "actions/discovery.lua", {"metadata": {"annotations": annotations}, "spec": {"mode": "Auto"}}
    )
    assert {name for name, action in actions.items() if not action["disabled"]} == offered
