"""Options that engines' releases have, read from their own wheels on 2026-11-29. No test stands here.

vLLM: vllm/engine/arg_utils.py, vllm/config/cache.py (CacheDType), vllm/entrypoints/cli/serve.py. SGLang:
sglang/srt/server_args.py and, from 0.5.20, sglang/srt/arg_groups/fields/. TensorRT-LLM: tensorrt_llm/commands/serve.py.
"""

_VLLM = {
    "--tensor-parallel-size", "--data-parallel-size", "--pipeline-parallel-size", "--enable-expert-parallel",
    "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization", "--kv-cache-dtype",
    "--enable-prefix-caching", "--no-enable-prefix-caching", "--quantization", "--speculative-config", "--headless",
    "--host", "--port",
}  # fmt: skip
_NODES = {"--kv-offloading-size", "--nnodes", "--node-rank", "--master-addr"}
_SGLANG = {
    "-m", "--model-path", "--tp-size", "--dp-size", "--ep-size", "--pp-size", "--context-length",
    "--max-running-requests", "--chunked-prefill-size", "--kv-cache-dtype", "--enable-hierarchical-cache",
    "--hicache-size", "--quantization", "--disable-radix-cache", "--enable-dp-attention", "--speculative-algorithm",
    "--speculative-draft-model-path", "--speculative-num-steps", "--speculative-eagle-topk",
    "--speculative-num-draft-tokens", "--nnodes", "--node-rank", "--dist-init-addr", "--enable-metrics", "--host",
    "--port",
}  # fmt: skip
_TURBO = {"turboquant_3bit_nc", "turboquant_4bit_nc"}
#: release -> its options among those that kvplan could write
OPTIONS = {
    "vllm@0.11": _VLLM,
    "vllm@0.19": _VLLM | _NODES,
    "vllm@0.21": _VLLM | _NODES,
    "vllm@0.25": _VLLM | _NODES,
    "sglang@0.5.15": _SGLANG,
    "sglang@0.5.16": _SGLANG,
    "sglang@0.5.22": _SGLANG | {"--attn-dp-size"},
    "trtllm@1.0": {
        "--tp_size", "--pp_size", "--ep_size", "--max_seq_len", "--max_batch_size", "--max_num_tokens", "--host",
        "--port", "--extra_llm_api_options",
    },
}  # fmt: skip
#: release -> what --kv-cache-dtype takes
FORMATS = {
    "vllm@0.11": {"fp8"},
    "vllm@0.19": {"fp8"},
    "vllm@0.21": {"fp8", "int8_per_token_head", "nvfp4", *_TURBO},
    "vllm@0.25": {"fp8", "int8_per_token_head", "int4_per_token_head", "nvfp4", *_TURBO},
    "sglang@0.5.15": {"fp8_e4m3", "fp4_e2m1"},
    "sglang@0.5.16": {"fp8_e4m3", "fp4_e2m1", "nvfp4"},
    "sglang@0.5.22": {"fp8_e4m3", "nvfp4"},
    "trtllm@1.0": set(),
}
