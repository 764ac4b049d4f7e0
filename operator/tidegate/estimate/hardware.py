"""
Figures of an accelerator by its name: memory, bandwidth, arithmetic, power.

In:    an AcceleratorClass name (`nvidia-h100`) and the product label of its nodes (`NVIDIA-H100-80GB-HBM3`).
Out:   the row of `hardware.csv`, or a generic accelerator with that memory, marked as a guess.
Source: vendors' data sheets (dense figures, no sparsity); power draw of H100 and A100 under load:
        vllm-project/semantic-router `src/fleet-sim`, anchored on ML.ENERGY v3 (arXiv 2601.22076).
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files

from tidegate.domain.spec import Accelerator
from tidegate.units import GIB

# Draw with one and with many running requests as a share of the board power, for accelerators without a measurement:
# an H100 draws 300 and 600 of 700 W.
DRAW_SHARE_LOW = 0.43
DRAW_SHARE_HIGH = 0.86
# For these the measured draw is kept even if the class states a board power.
MEASURED_DRAW = frozenset({"h100", "a100"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """
    One kind of accelerator.

    Args:
        name: Key of the priors table; empty: not recognized, the figures are a guess.
        memory_bytes: Memory of one accelerator, bytes.
        bandwidth: Memory bandwidth, bytes/s.
        flops_bf16, flops_fp8, flops_fp4: Dense operations/s; None: not supported in hardware.
        draw_w: Draw with one running request and with very many, W; None: not known.
    """

    name: str
    memory_bytes: float
    bandwidth: float
    flops_bf16: float
    flops_fp8: float | None
    flops_fp4: float | None
    draw_w: tuple[float, float] | None

    @property
    def known(self) -> bool:
        """True if the figures are of this accelerator and not of a generic one."""
        return bool(self.name)


# An unknown accelerator is assumed to have about an A100's speed per GiB of memory, the middle of what serves LLMs
# (per GiB: A100 25 GB/s and 3.9 TFLOP/s, H100 42 and 12, L40S 18 and 7.5, L4 12 and 5).
GENERIC_MEMORY_GIB = 80.0
GENERIC_BANDWIDTH_PER_GIB = 25e9
GENERIC_FLOPS_PER_GIB = 3.5e12


def _generic(memory_gib: float | None) -> Hardware:
    memory = memory_gib or GENERIC_MEMORY_GIB
    return Hardware(
        name="",
        memory_bytes=memory * GIB,
        bandwidth=memory * GENERIC_BANDWIDTH_PER_GIB,
        flops_bf16=memory * GENERIC_FLOPS_PER_GIB,
        flops_fp8=None,
        flops_fp4=None,
        draw_w=None,
    )


def recognise(accelerator: Accelerator | None) -> Hardware:
    """
    The hardware of an accelerator class. Memory and board power stated in the class take precedence over the table,
    except over a measured draw.

    Args:
        accelerator: The class; None: the tier names one that does not exist.
    """
    if accelerator is None:
        return _generic(None)
    return _recognise(accelerator.name, accelerator.product, accelerator.memory_gib, accelerator.board_power_w)


@lru_cache(maxsize=1024)
def _recognise(name: str, product: str, memory_gib: float | None, board_w: float | None) -> Hardware:
    found = _by_label(product) or _by_label(name) or _generic(memory_gib)
    return replace(
        found,
        memory_bytes=memory_gib * GIB if memory_gib else found.memory_bytes,
        draw_w=found.draw_w if board_w is None or found.name in MEASURED_DRAW else _draw(board_w),
    )


# Number of slices into which MIG partitions a board; boards that are not listed have seven.
PARTS = {"a30": 4, "rtx-pro-6000": 4}
PARTS_OTHER = 7


def _by_label(label: str) -> Hardware | None:
    """
    The hardware with the longest alias that occurs as whole words in the label: `NVIDIA-H100-PCIe` is no `h100`.

    A memory size in the label takes precedence over the table, and a MIG profile (`1g.10gb`) means only that part.
    """
    words = "-" + re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") + "-"
    for alias, hardware in _aliases():
        if f"-{alias}-" in words:
            rest = words.replace(f"-{alias}-", "-", 1)
            part = re.search(r"-(\d)g-(\d+)gb-", rest)
            if part:
                return _part(hardware, int(part[1]), float(part[2]))
            memory = re.search(r"-(\d+)gb-", rest)
            return replace(hardware, memory_bytes=float(memory[1]) * GIB) if memory else hardware
    return None


def _part(board: Hardware, slices: int, memory_gib: float) -> Hardware:
    """A MIG partition: its memory, bandwidth in proportion to memory, arithmetic and draw in proportion to slices."""
    share = min(1.0, slices / PARTS.get(board.name, PARTS_OTHER))
    return Hardware(
        # Not the name of the board: rows of the priors table for the whole board do not apply.
        name=f"{board.name}-{slices}g",
        memory_bytes=memory_gib * GIB,
        bandwidth=board.bandwidth * min(1.0, memory_gib * GIB / board.memory_bytes),
        flops_bf16=board.flops_bf16 * share,
        flops_fp8=None if board.flops_fp8 is None else board.flops_fp8 * share,
        flops_fp4=None if board.flops_fp4 is None else board.flops_fp4 * share,
        draw_w=None if board.draw_w is None else (board.draw_w[0] * share, board.draw_w[1] * share),
    )


@cache
def _aliases() -> tuple[tuple[str, Hardware], ...]:
    table = [
        (alias, _hardware(row))
        for row in csv.DictReader(files(__package__).joinpath("hardware.csv").read_text().splitlines())
        for alias in (row["name"], *row["aliases"].split())
    ]
    return tuple(sorted(table, key=lambda pair: -len(pair[0])))


def _hardware(row: Mapping[str, str]) -> Hardware:
    low, high = row["draw_low_w"], row["draw_high_w"]
    return Hardware(
        name=row["name"],
        memory_bytes=float(row["memory_gib"]) * GIB,
        bandwidth=float(row["bandwidth_gb_s"]) * 1e9,
        flops_bf16=float(row["bf16_tflops"]) * 1e12,
        flops_fp8=float(row["fp8_tflops"]) * 1e12 if row["fp8_tflops"] else None,
        flops_fp4=float(row["fp4_tflops"]) * 1e12 if row["fp4_tflops"] else None,
        draw_w=(float(low), float(high)) if low and high else _draw(float(row["board_w"])),
    )


def _draw(board_w: float) -> tuple[float, float]:
    return board_w * DRAW_SHARE_LOW, board_w * DRAW_SHARE_HIGH
