"""
How a tier serves its model: which weights, in which precision, on how many of which accelerators.

In:    model name, tier, accelerator class.
Out:   `Serving`, everything a prior of the performance law is looked up by.

A replica is one pod. With `--data-parallel-size` several engines run in it side by side, each with a batch, a queue and
a KV cache of its own. The performance law is that of one engine.
"""

from dataclasses import dataclass

from tidegate.domain.spec import Accelerator, TierSpec
from tidegate.estimate.arguments import ServeArguments, parse, tensor_parallel
from tidegate.estimate.hardware import Hardware, recognise
from tidegate.estimate.models import WEIGHT_BYTES, ModelShape, Precision, bits_in, precision_in, shape_of
from tidegate.units import GIB

# vLLM's own defaults where the arguments are silent. Its server takes 8192 tokens a step on accelerators with 70 GiB
# and more except the A100, 2048 on others; and 256 sequences (newer ones 1024 on the large accelerators: the lower one
# can only cost money).
MEMORY_SHARE = 0.92
RUNNING_MAX = 256
BATCHED_TOKENS_LARGE, BATCHED_TOKENS_SMALL = 8192, 2048
LARGE_BYTES = 70 * GIB
# A replica keeps back activations, graphs and the runtime: about 4 GB on 80 GiB, 2 GB on 24 GiB (vLLM reports 41,408
# tokens for an 8 B model on an RTX 4090, which this reproduces within a tenth).
RESERVE_BYTES = 1.0e9
RESERVE_SHARE = 0.035


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """
    One replica of a tier as far as its speed goes.

    Args:
        shape: The model.
        precision: Format of the weights.
        hardware: The accelerator.
        tensor_parallel: Accelerators that share each layer.
        pipeline_parallel: Stages that share the layers.
        data_parallel: Engines in one replica.
        context_parallel: Parts of each context, which accelerators that would hold the same keys and values share.
        kv_fp8: True where the KV cache takes one byte a value.
        running_max: Most requests in the batch of an engine.
        batched_tokens_max: Most tokens in one step of an engine.
        context_max: Longest context that is served, tokens; infinity where the arguments do not say.
        memory_share: Share of the memory that vLLM takes.
        prefix_caching: False where it is switched off.
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
        """How many times an engine holds its KV cache, >= 1: heads that more accelerators share are held by each."""
        return max(1.0, self.tensor_parallel / self.shape.kv_heads / self.context_parallel)

    @property
    def accelerators(self) -> int:
        """Accelerators that a replica computes on."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def weight_bytes(self) -> float:
        """
        Bytes of the weights that one engine holds.

        Engines side by side hold a dense model each, but share the experts of a mixture, which are nearly all of it.
        """
        shared = self.data_parallel if self.shape.params_active < self.shape.params else 1
        return self.shape.params * WEIGHT_BYTES[self.precision] / shared

    @property
    def kv_cache_tokens(self) -> float:
        """Tokens of context that fit into an engine beside the weights; at least 1 (else it will not start)."""
        devices = self.tensor_parallel * self.pipeline_parallel
        reserve = RESERVE_BYTES + RESERVE_SHARE * self.hardware.memory_bytes
        room = devices * (self.hardware.memory_bytes * self.memory_share - reserve) - self.weight_bytes
        return max(1.0, room / (self.kv_bytes * self.kv_copies))


def serving_of(model: str, tier: TierSpec, accelerator: Accelerator | None) -> Serving:
    """How this tier serves the model; arguments win over names, names over defaults."""
    arguments = parse(tier.workload.args) if tier.workload else ServeArguments()
    loaded = (tier.workload.model if tier.workload else None) or arguments.model or model
    shape = shape_of(loaded)
    # A client may ask for `chat-large`; the repository that is loaded tells more, and the other way round.
    shape = shape if shape.known else shape_of(model)
    hardware = recognise(accelerator)
    tensor, pipeline, data = _parallel(arguments, tier.accelerators_per_replica)
    return Serving(
        shape=shape,
        precision=_precision(arguments, loaded, tier) or shape.published,
        hardware=hardware,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        context_parallel=arguments.context_parallel or 1,
        kv_fp8=(arguments.kv_cache_dtype or "").startswith("fp8"),
        running_max=arguments.running_max or RUNNING_MAX,
        batched_tokens_max=arguments.batched_tokens_max or _batched_tokens(hardware),
        context_max=float(arguments.context_max or "inf"),
        memory_share=arguments.memory_share or MEMORY_SHARE,
        prefix_caching=arguments.prefix_caching is not False,
    )


def _parallel(arguments: ServeArguments, accelerators: int) -> tuple[int, int, int]:
    """Tensor, pipeline and data parallelism of one pod: no more engines than its accelerators carry."""
    pipeline, data = arguments.pipeline_parallel or 1, arguments.data_parallel or 1
    tensor = tensor_parallel(arguments, accelerators)
    return tensor, pipeline, min(data, max(1, accelerators // (tensor * pipeline)))


def _batched_tokens(hardware: Hardware) -> int:
    large = hardware.memory_bytes >= LARGE_BYTES and not hardware.name.startswith("a100")
    return BATCHED_TOKENS_LARGE if large else BATCHED_TOKENS_SMALL


def _precision(arguments: ServeArguments, loaded: str, tier: TierSpec) -> Precision | None:
    """
    The first of these that speaks: `--quantization`, the repository that is loaded, the tier's name; None: none does.

    A `--quantization` that is the name of a method (`gptq_marlin`, `modelopt`) leaves the bits to the names.
    `--dtype` is not asked: it is what is computed in, and quantized weights stay as they are. Where the operator does
    not build the workload the tier's name is nearer to it than the model name clients use.
    """
    names = (loaded, tier.name) if tier.workload else (tier.name, loaded)
    asked, named = arguments.quantization or "", next(filter(None, map(precision_in, names)), None)
    if named in (None, Precision.BF16):
        return precision_in(asked) or named
    return bits_in(asked) or named
