"""
The Dockerfile, executed step by step in a clean folder, without an image engine.

COPY obeys .dockerignore, RUN runs with the folder in place of `/`, and the second stage is checked for what it
promises. Not checked: the base image itself.
"""

import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
# Absolute folders that the image's steps write to; each lies below the clean folder here.
FOLDERS = ("/opt/tidegate", "/src")


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def value(self, instruction: str) -> str:
        return next(value for name, value in self.steps if name == instruction)


def stages() -> list[Stage]:
    with (ROOT / "Dockerfile").open("rb") as file:
        parser = DockerfileParser(fileobj=file)
        found: list[Stage] = []
        for step in parser.structure:
            if step["instruction"] == "FROM":
                found.append(Stage(step["value"]))
            elif step["instruction"] != "COMMENT" and found:
                found[-1].steps.append((step["instruction"], step["value"]))
    return found


def is_in_context(name: str) -> bool:
    """What .dockerignore lets through: the last line that matches decides."""
    allowed = True
    for raw in (ROOT / ".dockerignore").read_text().split():
        rule, keep = raw.removeprefix("!"), raw.startswith("!")
        tail = rule.removeprefix("**/")
        if fnmatch.fnmatch(name, rule) or name.startswith(f"{rule}/") or (tail != rule and tail in name.split("/")):
            allowed = keep
    return allowed


class Builder:
    """Carries out the first stage below a clean folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(root)}
        self.environment |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "REQUESTS_"))}

    def here(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else self.folder / path

    def run(self, stage: Stage) -> None:
        for instruction, value in stage.steps:
            getattr(self, f"do_{instruction.lower()}")(value)

    def do_env(self, value: str) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(value))

    def do_workdir(self, value: str) -> None:
        self.folder = self.here(value)
        self.folder.mkdir(parents=True, exist_ok=True)

    def do_copy(self, value: str) -> None:
        *sources, target = shlex.split(value)
        destination = self.here(target)
        destination.mkdir(parents=True, exist_ok=True)
        for source in sources:
            origin = ROOT / source
            files = [p for p in origin.rglob("*") if p.is_file()] if origin.is_dir() else [origin]
            kept = [p for p in files if is_in_context(str(p.relative_to(ROOT)))]
            assert kept, f"{source} is not in the build context"
            for file in kept:
                place = destination / (file.relative_to(origin) if origin.is_dir() else file.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)

    def do_run(self, value: str) -> None:
        command = value.replace("python -m venv", f"{sys.executable} -m venv")
        for folder in FOLDERS:
            command = command.replace(folder, str(self.here(folder)))
        done = subprocess.run(
            ["sh", "-ec", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"RUN {value}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_steps_make_a_program_that_runs(tmp_path: Path) -> None:
    build, final = stages()
    Builder(tmp_path).run(build)
    program = tmp_path / "opt/tidegate/bin/tidegate"
    (entry,) = json.loads(final.value("ENTRYPOINT"))
    assert entry == program.name
    for arguments in (["--version"], [*json.loads(final.value("CMD")), "--help"], ["crds"]):
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    installed = {path.name.split("-")[0] for path in tmp_path.glob("opt/tidegate/lib/*/site-packages/*.dist-info")}
    assert {"tidegate", "kopf", "numpy"} <= installed
    assert not installed & {"pytest", "setuptools", "pip"}
    size = sum(path.lstat().st_size for path in (tmp_path / "opt").rglob("*"))
    assert size < 300e6, f"{size / 1e6:.0f} MB on top of the base image; the page on security states it"


def test_both_stages_start_from_the_same_slim_python() -> None:
    build, final = stages()
    assert build.base.split()[0] == final.base.split()[0]
    assert build.base.split()[0].endswith("-slim")


def test_the_image_runs_as_nobody_and_says_how_it_is() -> None:
    _, final = stages()
    assert int(final.value("USER").split(":")[0]) > 0
    assert "/healthz" in final.value("HEALTHCHECK")
    assert "org.opencontainers.image.licenses" in final.value("LABEL")


def test_the_base_image_s_own_pip_is_removed_before_root_is_given_up() -> None:
    _, final = stages()
    removal = next(i for i, (name, value) in enumerate(final.steps) if name == "RUN" and "pip uninstall" in value)
    assert "ensurepip" in final.steps[removal][1]
    assert removal < next(i for i, (name, _) in enumerate(final.steps) if name == "USER")


def test_only_hashed_requirements_are_installed() -> None:
    build, _ = stages()
    installs = [v for i, v in build.steps if i == "RUN" and "pip install" in v]
    assert installs
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command


@pytest.mark.parametrize("name", ["operator/tidegate/cycle.py", "requirements/run.txt"])
def test_what_is_needed_is_in_the_build_context(name: str) -> None:
    assert is_in_context(name)


@pytest.mark.parametrize("name", [".git/config", "tests/data.py", "operator/tidegate/__pycache__/x"])
def test_what_is_not_needed_stays_out(name: str) -> None:
    assert not is_in_context(name)
