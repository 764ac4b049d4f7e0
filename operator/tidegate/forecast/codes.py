"""
Compact integer codes for positive numbers, so that an array of them packs into few bytes and is restored exactly.

The state in memory holds the codes themselves, so a restart restores it exactly.
"""

import math
from array import array
from base64 import b85decode, b85encode
from collections.abc import Sequence
from sys import byteorder

# A code is the logarithm in steps of 0.05 %: 16 bits cover 1e-6 to 1e8.
STEP = 5e-4
SMALLEST = 1e-6
CODE_MAX = 65_535
_OFFSET = math.log(SMALLEST) / STEP


def encode(value: float) -> int:
    """The code of a value >= 0, within 0.025 % of it; 0 for less than `SMALLEST`."""
    if value <= SMALLEST:
        return 0
    code = round(math.log(value) / STEP - _OFFSET)
    return code if code < CODE_MAX else CODE_MAX


def decode(code: int) -> float:
    """The value of a code; 0.0 for code 0."""
    return math.exp((code + _OFFSET) * STEP) if code else 0.0


def pack(codes: Sequence[int], *, kind: str = "H") -> str:
    """
    Text of an array of whole numbers, little-endian; `unpack` is the inverse.

    Args:
        codes: Shape (n,), each within the range of `kind`.
        kind: Type code of `array`: "B" (8 bits), "H" (16) or "I" (32).
    """
    packed = array(kind, codes)
    if byteorder == "big":
        packed.byteswap()
    return b85encode(packed.tobytes()).decode("ascii")


def unpack(text: object, *, length: int, kind: str = "H") -> tuple[int, ...]:
    """The array that `pack` wrote. Raises TypeError or ValueError if it is not `length` numbers of that kind."""
    if not isinstance(text, str):
        raise TypeError("a packed array must be a string")
    unpacked = array(kind)
    unpacked.frombytes(b85decode(text))
    if byteorder == "big":
        unpacked.byteswap()
    if len(unpacked) != length:
        raise ValueError(f"{len(unpacked)} numbers where {length} belong")
    return tuple(unpacked)
