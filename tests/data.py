"""Finds the measured data that some tests need, and skips those tests if it is missing."""

import os
from pathlib import Path

import pytest

DATA_VARIABLE = "TIDEGATE_DATA"


def data_path(name: str) -> Path:
    """
    Path of a file in the data folder; skips the test if it is missing.

    Args:
        name: Path below the folder, e.g. `traces/azure2023_conv.csv.gz`. Its README names the public sources.
    """
    path = Path(os.environ.get(DATA_VARIABLE, "")) / name
    if DATA_VARIABLE not in os.environ or not path.exists():
        pytest.skip(f"needs {name}: set {DATA_VARIABLE} to a folder that holds it")
    return path
