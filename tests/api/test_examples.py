"""
The examples that people copy are valid.
"""

from pathlib import Path

import pytest

from tidegate.api import manifests

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(path: Path) -> None:
    found = manifests.load(path, offline=False)
    assert found.accelerators or found.deployments


def test_every_class_that_an_example_names_is_in_one() -> None:
    found = [manifests.load(path, offline=False) for path in EXAMPLES]
    known = {name for one in found for name in one.accelerators}
    named = {tier.accelerator for one in found for spec in one.deployments.values() for tier in spec.tiers}
    assert named <= known
