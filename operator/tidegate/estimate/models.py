"""
Figures of a model by its name: parameters, KV bytes per token, precision of the weights.

In:    a repository name such as `RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16`, or a path that contains one.
Out:   its shape, from `models.csv` or from the size in the name.
Source: the models' published configuration files; the fit of depth to size is ours, over the dense rows. MXFP4
        (gpt-oss, Kimi K3, the experts of DeepSeek V4) is treated as nvfp4, since both have 4 bits and scales of small
        groups.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from math import pow


class Precision(StrEnum):
    """Format of the weights, as the priors table names it."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    NVFP4 = "nvfp4"


# Bytes per weight, including the scales of groups (4-bit groups of 128: 4.25 bits; NVFP4 groups of 16: 4.5 bits).
WEIGHT_BYTES = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT8: 1.0,
    Precision.INT4: 4.25 / 8,
    Precision.NVFP4: 4.5 / 8,
}

# The first match wins. A number of bits takes precedence over the name of a method, which only implies the usual number
# (GPTQ-Int8 is int8).
Marks = tuple[tuple[Precision, str], ...]
BIT_MARKS: Marks = (
    (Precision.NVFP4, r"nv-?fp4|mx-?fp4|fp4|modelopt_fp4"),
    (Precision.INT4, r"int4|w4a16|w4a8|4-?bit|q4"),
    (Precision.INT8, r"int8|w8a8|w8a16|8-?bit|q8|experts_int8"),
    (Precision.FP8, r"fp8|mx-?fp8|fbgemm_fp8"),
)
METHOD_MARKS: Marks = (
    (Precision.FP8, r"modelopt"),
    (Precision.INT4, r"awq|gptq|bnb|bitsandbytes|awq_marlin|gptq_marlin"),
)
UNQUANTIZED_MARKS: Marks = ((Precision.BF16, r"bf16|bfloat16|fp16|float16|half|float32|fp32"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """
    The shape of one model, independent of its precision.

    Args:
        name: Key of the priors table; empty if the model is not in `models.csv`.
        params: Number of weights, including all experts.
        params_active: Number of weights that one token passes through.
        kv_bytes: KV cache bytes per token of context, with two bytes per value. Layers that hold a state of fixed size
            (Qwen3.5, Nemotron, Kimi Linear), or a window of at most 512 tokens (gpt-oss, MiMo V2), add none, since a
            longer context does not make it larger.
        kv_heads: Parts into which the KV cache can be split; 1 for a latent one (MLA), which each accelerator stores
            completely.
        published: Format in which the weights are published.
        known: False if even the size is a guess.
    """

    name: str
    params: float
    params_active: float
    kv_bytes: float
    kv_heads: int = 8
    published: Precision = Precision.BF16
    known: bool = True


# Assumed size of an unknown model: the most common one.
UNKNOWN_PARAMS = 8e9
UNITS = {"t": 1e12, "b": 1e9, "m": 1e6}
SIZE = r"(\d+(?:\.\d+)?)([tbm])(?![a-z0-9])"
# Names round sizes: 1.24 B parameters are called `1b`. A name with a size further off than this factor is another model
# that was derived from the named one.
ROUNDED_MOST = 1.25


@lru_cache(maxsize=1024)
def shape_of(repository: str) -> ModelShape:
    """
    The model's shape by its repository or path; a guess of 8 B parameters if the name contains no model or size.

    In a path, the last part that names a model or a size counts: `s3://bucket/Llama-3.1-8B/` and
    `models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f2` are both Llama 8B.
    """
    shapes = (_shape_named(base) for base in _names(repository))
    return next((shape for shape in shapes if shape.known), _from_size(""))


def _names(repository: str) -> Iterator[str]:
    """Candidates for the model's name, in lower case: each part of the path, from the end."""
    for part in reversed(repository.lower().split("/")):
        # The Hugging Face cache stores `org/name` as `models--org--name`.
        yield part.rsplit("--", 1)[-1] if part.startswith("models--") else part


def _shape_named(base: str) -> ModelShape:
    """The shape named by a part of a path; a size in it wins: `DeepSeek-R1-0528-Qwen3-8B` has 8 B, not 671 B."""
    written = _from_size(base)
    for pattern, shape in _table():
        if re.match(rf"{pattern}(?![0-9a-z.])", base) and _alike(shape, written):
            return shape
    return written


@lru_cache(maxsize=1024)
def precision_in(text: str) -> Precision | None:
    """The precision in a repository name, a tier name or a `--quantization` value; None if there is none."""
    return _marked(text, (*BIT_MARKS, *METHOD_MARKS, *UNQUANTIZED_MARKS))


def bits_in(text: str) -> Precision | None:
    """The precision if it is written as a number of bits, not only as the name of a method."""
    return _marked(text, BIT_MARKS)


def _marked(text: str, rows: Marks) -> Precision | None:
    lowered = text.lower()
    for precision, marks in rows:
        if re.search(rf"(?<![a-z0-9])({marks})(?![0-9])", lowered):
            return precision
    return None


@cache
def _table() -> tuple[tuple[str, ModelShape], ...]:
    rows = csv.DictReader(files(__package__).joinpath("models.csv").read_text().splitlines())
    return tuple(
        (
            row["pattern"],
            ModelShape(
                name=row["name"],
                params=float(row["params_b"]) * 1e9,
                params_active=float(row["active_b"]) * 1e9,
                kv_bytes=float(row["kv_bytes_per_token"]),
                kv_heads=int(row["kv_heads"]),
                published=Precision(row["precision"]),
            ),
        )
        for row in rows
    )


def _alike(shape: ModelShape, written: ModelShape) -> bool:
    """Whether a name with this size can mean the model; some names contain the active parameters (Llama 4)."""
    ratio = written.params / shape.params
    return not written.known or 1 / ROUNDED_MOST < ratio < ROUNDED_MOST or written.params == shape.params_active


def _from_size(base: str) -> ModelShape:
    """The shape for the size in a name: `30b-a3b` (total, active), `8x7b` (experts), `13b`, `500m`, `1t`."""
    mixture = re.search(r"(\d+)x(\d+(?:\.\d+)?)b", base)
    if mixture:
        experts, each = int(mixture[1]), float(mixture[2]) * 1e9
        # Attention is shared between the experts: Mixtral 8x7B has 46.7 B, not 56 B, of which 12.9 B are active.
        return _dense_like(experts * each * 0.83, 2 * each * 0.92)
    size = re.search(rf"(?<![0-9a-z.]){SIZE}", base)
    if not size:
        return _dense_like(UNKNOWN_PARAMS, UNKNOWN_PARAMS, known=False)
    params = float(size[1]) * UNITS[size[2]]
    active = re.search(rf"(?<![0-9a-z])a{SIZE}", base)
    return _dense_like(params, float(active[1]) * UNITS[active[2]] if active else params)


def _dense_like(params: float, active: float, *, known: bool = True) -> ModelShape:
    if not params or not active:  # a name like `agent-0b` states no size
        return _from_size("")
    active = min(active, params)
    # Eight heads of 128 values: 131,072 bytes for Llama 8B. A mixture has about as many: 200 kB are guessed for Qwen3
    # 235B-A22B, which has 193, and 87 kB for 30B-A3B, which has 98.
    kv_bytes = 131_072 * depth_of(active)
    return ModelShape(name="", params=params, params_active=active, kv_bytes=kv_bytes, known=known)


def depth_of(params_active: float) -> float:
    """
    Layers over the 32 of an 8 B model, by the number of weights that one token passes through.

    A fit to Llama 8B (32 layers), Qwen3 32B (64) and Llama 70B (80), which holds for mixtures too: DeepSeek V3 with
    37 B active weights has 61, not the 206 of its 671 B.
    """
    return pow(params_active / 8e9, 0.42)
