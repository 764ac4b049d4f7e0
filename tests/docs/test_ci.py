"""The CI checks that guard main, with fake programs in place of the tests and the advisories."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KNOWN = '{"dependencies": [{"name": "pip", "version": "24.0", "vulns": ["any"]}]}'
UNKNOWN = '{"dependencies": [{"name": "pip", "skip_reason": "could not be audited"}]}'
MAKEFILE = """
test .venv-tools/.installed:
audit:
\t@echo audited && exit {code}
"""


@pytest.mark.parametrize(
    ("answer", "audit", "passes", "said"),
    [
        pytest.param(f"echo '{KNOWN}'; exit 1", 0, True, "audited\n", id="nothing is known against what we use"),
        pytest.param(f"echo '{KNOWN}'; exit 1", 1, False, "audited\n", id="a vulnerability is known"),
        pytest.param(f"echo '{UNKNOWN}'", 1, True, "were not audited", id="an index without advisories"),
        pytest.param("echo Traceback >&2; exit 1", 1, True, "were not audited", id="nobody answers"),
    ],
)
def test_a_known_vulnerability_fails_the_run_and_silence_does_not(
    tmp_path: Path, answer: str, audit: int, passes: bool, said: str
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(MAKEFILE.format(code=audit))
    tools = tmp_path / ".venv-tools" / "bin"
    tools.mkdir(parents=True)
    for program, body in {"pip-audit": answer, "chromium": "true"}.items():
        (tools / program).write_text(f"#!/bin/sh\n{body}\n")
        (tools / program).chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run([tmp_path / ".ci" / "run"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is passes, done.stderr
    assert said in done.stdout
