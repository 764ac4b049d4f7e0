"""Unique loopback addresses for test servers, even if several workers run tests at once."""

import os
from itertools import count

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = count()


def host() -> str:
    """An address that no other test has."""
    subnet, number = divmod(next(_numbers), 250)
    return f"127.{100 + _worker}.{subnet}.{1 + number}"
