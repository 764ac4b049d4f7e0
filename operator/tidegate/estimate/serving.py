"""
The configuration of a tier: weights, precision, accelerators, parallelism and engine limits.

In:    model name, tier, accelerator class.
Out:   `Serving`, everything that the prior of the performance law depends on.

A replica is one pod. With `--data-parallel-size` several engines run in it, each with its own batch, queue and KV
cache. The performance law describes one engine.
"""

from dataclasses import dataclass

from tidegate.domain.spec import Accelerator, TierSpec
from tidegate.estimate.arguments import ServeArguments, parse, tensor_parallel
from tidegate.estimate.hardware import Hardware, recognise
from tidegate.estimate.models import WEIGHT_BYTES, ModelShape, Precision, bits_in, precision_in, shape_of
from tidegate.units import GIB

# vLLM's defaults for arguments that are not given (`EngineArgs.get_batch_defaults` in `vllm/engine/arg_utils.py`, since
# 0.9). Its server takes 8192 tokens per step and 1024 sequences on accelerators with at least 70 GiB except the A100.
MEMORY_SHARE = 0.92
RUNNING_MAX_LARGE, RUNNING_MAX_SMALL = 1024, 256
BATCHED_TOKENS_LARGE, BATCHED_TOKENS_SMALL = 8192, 2048
LARGE_BYTES = 70 * GIB
# Memory of activations, graphs and the runtime per accelerator: about 4 GB of 80 GiB, 2 GB of 24 GiB (vLLM reports
# 41,408 tokens for an 8 B model on an RTX 4090, which this reproduces within a tenth).
RESERVE_BYTES = 1.0e9
RESERVE_SHARE = 0.035


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """
    What determines the speed of one replica of a tier.

    Args:
        shape: The model.
        precision: Format of the weights.
        hardware: The accelerator.
        tensor_parallel: Accelerators over which each layer is split.
        pipeline_parallel: Stages into which the layers are divided.
        data_parallel: Engines in one replica.
        context_parallel: Parts into which each context is split over accelerators that would otherwise store the same
            keys and values.
        kv_fp8: True if the KV cache takes one byte per value.
        running_max: Most requests in the batch of an engine.
        batched_tokens_max: Most tokens in one step of an engine.
        context_max: Longest context that is served, tokens; infinity if the arguments do not say.
        memory_share: Share of the memory that vLLM uses.
        prefix_caching: False if it is switched off.
    """

    shape: ModelShape
    precision: Precision
    hardware: Hardware
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    context_parallel: int
    kv_fp8: bool
    running_max: int
    batched_tokens_max: int
    context_max: float
    memory_share: float
    prefix_caching: bool

    @property
    def kv_bytes(self) -> float:
        """KV cache bytes per token of context."""
        return self.shape.kv_bytes * (0.5 if self.kv_fp8 else 1.0)

    @property
    def kv_copies(self) -> float:
        """Copies of the KV cache in an engine, >= 1: with fewer KV heads than accelerators it is replicated."""
        return max(1.0, self.tensor_parallel / self.shape.kv_heads / self.context_parallel)

    @property
    def accelerators(self) -> int:
        """Accelerators that a replica uses."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def weight_bytes(self) -> float:
        """
        Bytes of the weights that one engine stores.

        With data parallelism each engine stores a dense model completely. The experts of a mixture-of-experts model,
        nearly all of its weights, are shared.
        """
        shared = self.data_parallel if self.shape.params_active < self.shape.params else 1
        return self.shape.params * WEIGHT_BYTES[self.precision] / shared

    @property
    def kv_cache_tokens(self) -> float:
        """Tokens of context that fit into an engine besides the weights; at least 1 (with less it does not start)."""
        devices = self.tensor_parallel * self.pipeline_parallel
        reserve = RESERVE_BYTES + RESERVE_SHARE * self.hardware.memory_bytes
        room = devices * (self.hardware.memory_bytes * self.memory_share - reserve) - self.weight_bytes
        return max(1.0, room / (self.kv_bytes * self.kv_copies))


def serving_of(model: str, tier: TierSpec, accelerator: Accelerator | None) -> Serving:
    """The configuration of a tier: arguments take precedence over names, and names over defaults."""
    arguments = parse(tier.workload.args) if tier.workload else ServeArguments()
    loaded = arguments.model or (tier.workload.model if tier.workload else None) or model
    shape = shape_of(loaded)
    # A model name may be an alias such as `chat-large`. Then the loaded repository tells more, or the other way round.
    shape = shape if shape.known else shape_of(model)
    hardware = recognise(accelerator)
    tensor, pipeline, data = _parallel(arguments, tier.accelerators_per_replica)
    large = _is_large(hardware)
    batched_tokens_max = arguments.batched_tokens_max or (BATCHED_TOKENS_LARGE if large else BATCHED_TOKENS_SMALL)
    # Of a target's arguments nothing is known, nor which server it is, and unknown hardware may be an A100: too few
    # sequences only cost money.
    running_max = RUNNING_MAX_LARGE if large and hardware.known and tier.workload else RUNNING_MAX_SMALL
    return Serving(
        shape=shape,
        precision=_precision(arguments, loaded, tier) or shape.published,
        hardware=hardware,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        context_parallel=arguments.context_parallel or 1,
        kv_fp8=(arguments.kv_cache_dtype or "").startswith("fp8"),
        running_max=arguments.running_max or min(running_max, batched_tokens_max),
        batched_tokens_max=batched_tokens_max,
        context_max=float(arguments.context_max or "inf"),
        memory_share=arguments.memory_share or MEMORY_SHARE,
        prefix_caching=arguments.prefix_caching is not False,
    )


def _parallel(arguments: ServeArguments, accelerators: int) -> tuple[int, int, int]:
    """Tensor, pipeline and data parallelism of one pod; no more engines than its accelerators allow."""
    pipeline, data = arguments.pipeline_parallel or 1, arguments.data_parallel or 1
    tensor = tensor_parallel(arguments, accelerators)
    return tensor, pipeline, min(data, max(1, accelerators // (tensor * pipeline)))


def _is_large(hardware: Hardware) -> bool:
    return hardware.memory_bytes >= LARGE_BYTES and not hardware.name.startswith("a100")


def _precision(arguments: ServeArguments, loaded: str, tier: TierSpec) -> Precision | None:
    """
    The precision of the weights by the first of these that gives one; None if none does.

    They are `--quantization`, the loaded repository, the tier's name. If `--quantization` names a method
    (`gptq_marlin`, `modelopt`), the number of bits is taken from the names. `--dtype` is ignored: it is the format of
    the computation, and quantized weights stay as they are. Without a managed workload the tier's name comes before
    the model name, which may only be what clients use.
    """
    names = (loaded, tier.name) if tier.workload else (tier.name, loaded)
    asked, named = arguments.quantization or "", next(filter(None, map(precision_in, names)), None)
    if named in (None, Precision.BF16):
        return precision_in(asked) or named
    return bits_in(asked) or named
