"""Where the measured data lies that some tests compare with, and the skip where it does not."""

import os
from pathlib import Path

import pytest

DATA_VARIABLE = "TIDEGATE_DATA"


def data_path(name: str) -> Path:
    """
    Path of a file in the data folder; the test is skipped where it is absent.

    Args:
        name: Path below the folder, e.g. `traces/azure2023_conv.csv.gz`. Its README names the public sources.
    """
    path = Path(os.environ.get(DATA_VARIABLE, "")) / name
    if DATA_VARIABLE not in os.environ or not path.exists():
        pytest.skip(f"needs {name}: set {DATA_VARIABLE} to a folder that holds it")
    return path
