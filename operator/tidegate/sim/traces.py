"""
Traffic: when requests arrive and how long they are.

In:    a CSV file, plain or gzipped, with the columns arrival_s, input_tokens, output_tokens.
Out:   a `Trace`: arrival times from the start of the run, and token counts.
"""

import csv
import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import SpecError
from tidegate.units import SECONDS_PER_DAY

# If the first arrival is later than this, the times do not count from 0: they are dates, or milliseconds.
FIRST_S_MAX = 30 * SECONDS_PER_DAY
COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
# A run of more than a year, or a request with more tokens than any model's context, means that a unit is wrong.
LONGEST_S = 366 * SECONDS_PER_DAY
LARGEST = (LONGEST_S, 10_000_000, 10_000_000)
UNITS = ("seconds from the start of the run", "tokens", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """
    Requests of one deployment, sorted by arrival; shape (requests,) each.

    Args:
        arrival_s: Seconds from the start of the run, ascending.
        prompt_tokens, output_tokens: Tokens, >= 1.
        hit_tokens: Prompt tokens found in the prefix cache; zeros if unknown.
        name: Name in tables and messages.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    hit_tokens: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    name: str = "trace"

    def __post_init__(self) -> None:
        if len(self.hit_tokens) != len(self.arrival_s):
            object.__setattr__(self, "hit_tokens", np.zeros(len(self.arrival_s), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Time of the last arrival, s; 0 for an empty trace."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    def window(self, *, start_s: float, end_s: float) -> "Trace":
        """The requests in [start_s, end_s), shifted so that `start_s` becomes 0."""
        low, high = np.searchsorted(self.arrival_s, [start_s, end_s])
        return Trace(
            arrival_s=self.arrival_s[low:high] - start_s, prompt_tokens=self.prompt_tokens[low:high],
            output_tokens=self.output_tokens[low:high], hit_tokens=self.hit_tokens[low:high], name=self.name,
        )  # fmt: skip


def read(path: Path) -> Trace:
    """
    A trace from a CSV file (gzipped if its suffix is `.gz`).

    Raises:
        SpecError: The file cannot be read or is empty, its columns differ, a line is not a request, or its times do
            not count from 0. It names line and value.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as lines:
            return _parse(csv.reader(lines), path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as fault:
        raise SpecError(
            field="--trace", value=str(path), allowed=f"must be a readable CSV file in UTF-8 ({fault})"
        ) from fault


def _parse(rows: "csv._reader", path: Path) -> Trace:  # type: ignore[name-defined]
    header: list[str] = next(rows, [])
    if tuple(header[:3]) != COLUMNS:
        raise SpecError(
            field=f"{path.name}:1", value=",".join(header), allowed=f"must be the columns {','.join(COLUMNS)}"
        )
    lines: list[int] = []
    values: list[tuple[float, float, float]] = []
    for row in filter(None, rows):  # skip empty lines
        lines.append(rows.line_num)
        try:
            values.append((float(row[0]), float(row[1]), float(row[2])))
        except (ValueError, IndexError) as fault:
            raise SpecError(
                field=f"{path.name}:{lines[-1]}", value=",".join(row), allowed="must be three numbers"
            ) from fault
    if not values:
        raise SpecError(field=path.name, value=None, allowed="must contain at least one request")
    table = np.array(values)
    outside = np.argwhere(~((table >= 0) & (table <= LARGEST)))  # includes NaN
    if len(outside):
        at, column = outside[0]
        value, allowed = f"{table[at, column]:.10g}", f"must be {UNITS[column]} from 0 to {LARGEST[column]:.0f}"
        raise SpecError(field=f"{path.name}:{lines[at]}", value=value, allowed=allowed)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if table[0, 0] > FIRST_S_MAX:
        allowed = "must be seconds from the start of the run, so the first request comes at 0 or soon after"
        raise SpecError(field=f"{path.name}: first arrival_s", value=f"{table[0, 0]:.10g}", allowed=allowed)
    return Trace(
        arrival_s=table[:, 0],
        prompt_tokens=np.maximum(table[:, 1].astype(np.int64), 1),
        output_tokens=np.maximum(table[:, 2].astype(np.int64), 1),
        name=path.name.removesuffix(".gz").removesuffix(".csv"),
    )
