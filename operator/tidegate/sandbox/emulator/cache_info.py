"""
The labels of `vllm:cache_config_info`, which describe a replica's KV cache.

From `num_gpu_blocks`, `block_size` and `kv_cache_size_tokens` an operator learns the size of the cache. The other
labels have vLLM 0.32's default values.
"""

from tidegate.sandbox.emulator.args import Options

_DEFAULTS = {
    "_block_size_resolved": "True",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "gpu_memory_utilization": "0.92",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}


def cache_info(options: Options, *, blocks: int, model_len: int) -> dict[str, str]:
    """Labels for a replica with `blocks` KV blocks, where the longest request has `model_len` tokens."""
    tokens = blocks * options.block_tokens
    return _DEFAULTS | {
        "block_size": str(options.block_tokens),
        "effective_attention_block_size": str(options.block_tokens),
        "cache_dtype": options.kv_cache_dtype,
        "enable_prefix_caching": str(options.prefix_caching),
        "kv_cache_max_concurrency": str(tokens / model_len),
        "kv_cache_size_tokens": str(tokens),
        "num_gpu_blocks": str(blocks),
        "num_gpu_blocks_override": str(options.blocks_override),
    }
