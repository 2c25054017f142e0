"""Every report of every command: what to type. No test stands here; `printing` runs them."""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
#: what the commands below read; they are run in a copy of it
FILES = GOLDEN / "files"
WIDTHS = (80, 100, 120)
#: a width at which nothing has to be left out
WIDE = 240
DAY = "--on 2026-11-24"
USUAL = "-t fp8 -t int4 -t mhc:4x -t mhc:8x -t h2o:20% -t streaming:4,4096 -t mhc:4x+h2o:20% -t mhc:4x+fp8"
#: every technique of the table, so that a new one changes no golden file
EVERY = (
    "-t fp8 -t nvfp4 -t int8 -t int8:token -t int4 -t int4:token -t kivi:2 -t turboquant:4 -t offload:cpu -t "
    "gqa:8 -t mqa -t mhc:4x -t mhc:2x -t mhc:8x -t h2o:20% -t h2o:50% -t streaming:4,4096 -t window:4096 -t "
    "snapkv:25% -t pyramidkv:25% -t adakv:25% -t chunkkv:25% -t kvzip:25% -t duo:50% -t r1kv:4096 -t "
    "visual:33% -t quest:2048 -t shadowkv -t dsa:2048 -t cla:2 -t yoco"
)
SERVER = f"load -m llama3.1-70b -g h200 --tp 4 --isl 4000 --osl 500 {DAY}"
SMALL = f"load -m llama3.1-8b -g h100 --isl 1000 --osl 200 {DAY}"
THREE = "-g h100 -g h200 -g b200"
DOCS = f"recommend -w doc-qa -m llama3.1-70b --queries-per-day 40000 --full {DAY}"
TRACE = f"simulate --trace trace.csv -m llama3.1-8b -g h100 {DAY}"
CHAT = f"recommend -w chat -m llama3.1-8b --full {DAY}"

#: GPUs that a report over all of them is made from, so that a new GPU changes no golden file
PINNED = (
    "a10", "a100-40gb-sxm", "a100-80gb-pcie", "a100-80gb-sxm", "b200", "b300", "h100-nvl", "h100-pcie", "h100-sxm",
    "h200", "l4", "l40s", "mi300x", "mi325x", "rtx-4090",
)  # fmt: skip

#: name -> the command; `--json` is added for its document. GPUs and techniques are named, days fixed.
REPORTS: dict[str, str] = {
    "estimate-usual": f"estimate -m llama3.1-70b -c 128k -g b300 {USUAL} {DAY}",
    "estimate-default-techniques": f"estimate -m qwen3-32b -c 32k -g h200 {DAY}",
    "estimate-two-gpus": f"estimate -m llama3.1-70b -c 32k -g h200 -g l40s -t fp8 -t mhc:4x+h2o:20% {DAY}",
    "estimate-by-gpu": f"estimate -m llama3.1-70b -c 64k -t fp8 {DAY}",
    "estimate-explain": f"estimate -m deepseek-v3 -c 32k -g h200 -t fp8 --explain {DAY}",
    "estimate-explain-one-gpu": f"estimate -m llama3.1-8b -c 2k -g h100 -t mhc:4x --tp 1 --explain {DAY}",
    "estimate-own-price": f"estimate -m gpt-oss-120b -c 64k -g h100 -t fp8 --price 2.49/h {DAY}",
    "estimate-unmeasured": f"estimate -m llama3.1-8b -c 16k -g l4 -t int8 {DAY}",
    "estimate-no-price": f"estimate -m llama3.1-8b -c 8k -g rtx-4090 -t fp8 {DAY}",
    "estimate-infeasible": f"estimate -m llama3.1-405b -c 128k -g l4 --tp 1 -t fp8 {DAY}",
    "estimate-not-for-the-model": f"estimate -m qwen3-next-80b -c 64k -g h200 -t mhc:4x -t h2o:20% {DAY}",
    "estimate-latent": f"estimate -m deepseek-v2-lite -c 16k -g h100 -t mhc:4x -t fp8 {DAY}",
    "estimate-shape": "estimate -m llama3.1-70b -c 16k -g h100 -t fp8 --weights fp8 --tp 2 --pp 2 --output 2k "
    f"--gpu-memory-utilization 0.85 {DAY}",
    "estimate-kernels": f"estimate -m llama3.1-8b -c 16k -g h100 -t fp8 --profile h100-sxm {DAY}",
    "techniques-doc-qa": f"techniques -m llama3.1-70b -w doc-qa {EVERY} {DAY}",
    "techniques-question-seen": f"techniques -m llama3.1-8b -w rag -g b200 -t nvfp4 -t snapkv:25% -t mhc:4x+fp8 {DAY}",
    "techniques-latent": f"techniques -m deepseek-v3 -w chat -g h200 -t fp8 -t mhc:4x -t dsa:2048 {DAY}",
    "memory-architecture": "memory -m gpt-oss-120b -c 128k --explain",
    "memory-engine": "memory -m gpt-oss-120b -c 128k --layout engine -g h100 --tp 2 --explain",
    "memory-transformers": "memory -m gpt-oss-120b -c 128k --layout transformers -b 3",
    "memory-budget": "memory -m qwen3-32b -c 32k -b 8 -g h100 --tp 2 -t fp8",
    "memory-engine-options": "memory -m llama3.1-8b -c 8k -g h100 --layout engine --block-size 32 --max-num-seqs 64 "
    "--max-num-batched-tokens 4k --max-model-len 16k --gpu-memory-utilization 0.8",
    "memory-encoder-decoder": "memory -m whisper-large-v3 -c 448 -b 4 --encoder-tokens 1500 --explain",
    "memory-cross-attention": "memory -m llama3.2-11b-vision -c 8k -g h100",
    "memory-hybrid": "memory -m qwen3-next-80b -c 64k --layout engine -g h200 --tp 2 --explain",
    "memory-state": "memory -m falcon-h1-7b -c 32k -b 2 --explain",
    "memory-latent": "memory -m deepseek-v3 -c 64k -t mhc:4x --explain",
    "memory-windows": "memory -m gemma3-27b -c 128k --kv-dtype fp8",
    "memory-experts": "memory -m deepseek-v3 -c 32k -g h200 --tp 1 --dp 8",
    "memory-stages": "memory -m qwen3-30b-a3b -c 32k -g h100 --pp-layers 16,32 --engine vllm@0.19 --cpu-offload 2GiB",
    "memory-drafts": "memory -m glm-5.2 -c 32k --kv-dtype fp8 --layout engine --speculative mtp",
    "memory-eagle": "memory -m llama3.1-8b -c 8k -g h100 --speculative eagle3 --kv-cache-memory-bytes 20GiB",
    "memory-slots": "memory -m qwen3.5-27b -c 32k --weights fp8 -g h100",
    "memory-sglang": "memory -m deepseek-r1 -c 8k -g h200 --tp 8 --engine sglang",
    "memory-trtllm": "memory -m llama3.1-8b -c 8k -g h100 --engine trtllm",
    "memory-no-fit": "memory -m llama3.1-70b -c 8k -g h100",
    "recommend": f"{DOCS} --ttft 5s --tpot 50ms --max-quality-drop 1% {THREE} -t baseline -t fp8 -t mhc:4x -t h2o:20%",
    "recommend-short": f"{DOCS.replace(' --full', '')} --ttft 10s -g h200 -g mi300x -g l4 -t baseline -t fp8",
    "recommend-any-technique": f"{DOCS} --any-technique -g h200 -g mi300x -t baseline -t mhc:4x -t h2o:20% -t int4",
    "recommend-infeasible": f"{DOCS.replace(' --full', '')} --ttft 1ms -g h200 -t baseline -t fp8",
    "recommend-too-few-gpus": f"{DOCS} --max-gpus 8 -g b200 -g l4 -t baseline -t fp8",
    "recommend-vary": f"{CHAT} -g h100 -t baseline --vary load=1,10 --vary price=1.99,2.49",
    "recommend-engines": f"{CHAT} -g h100 -t baseline -t fp8 --engine any",
    "recommend-speculative": f"{CHAT.replace('8b', '70b')} --speculative eagle3 -g h200 -t baseline -t fp8",
    "recommend-not-started": f"{CHAT.replace('llama3.1-8b', 'deepseek-v3')} --speculative eagle3 -g h200 -t baseline",
    "recommend-alike": f"recommend -m llama3.1-70b --isl 4000 --osl 500 --rate 2/s --ttft 2s -g b200 {DAY}",
    "recommend-bursts": f"recommend -w code-assistant -m llama3.1-70b -g b300 -g h100 -t baseline -t fp8 --full {DAY}",
    "recommend-own": f"{CHAT} --own -g h100 -g l40s -t baseline -t fp8",
    "recommend-api-cheaper": "recommend -w chat -m llama3.1-70b --queries-per-day 2000 -g h200 -t baseline "
    f"--full {DAY}",
    "recommend-beyond-context": "recommend -w doc-qa -m llama3-70b --allow-long-context "
    f"-g b200 -t baseline -t fp8 --full {DAY}",
    "recommend-images": f"recommend -w video-qa -m llama3.2-11b-vision -g h100 -t baseline --full {DAY}",
    "recommend-unmeasured": f"{CHAT} -g l4 -t baseline -t fp8 --no-prefix-cache",
    "recommend-options": f"{CHAT} --rate 3/s --e2e 30s --percentile 90% --spares 1 --headroom 20% --confidence 80% "
    "--weights bf16 --weights fp8 --max-gpus 16 -g h100 -g a100-80gb-sxm -t baseline -t int8",
    "recommend-energy": f"{CHAT} --objective energy -g h100 -g l40s -t baseline -t fp8",
    "recommend-latency": f"{CHAT} --objective latency -g rtx-4090 -g h100 --max-gpus 2 -t baseline",
    "recommend-no-limit": "recommend -w batch-summaries -m qwen3-32b --ttft none --tpot none -g h100 -t fp8 "
    f"--full {DAY}",
    "recommend-own-price": f"{CHAT} -g h200 --price 1.5/h -t baseline -t fp8",
    "recommend-own-scores": f"{CHAT} -g h100 -t baseline -t fp8 --quality scores.yaml --max-quality-drop 3%",
    "recommend-old-prices": f"{CHAT.replace('2026-11-24', '2028-01-01')} -g h100 -t baseline",
    "recommend-no-price": f"{CHAT} -g rtx-4090",
    "export": "export vllm plan.json",
    "export-elsewhere": "export sglang plan.json",
    "export-checkpoint": "export vllm plan.json --checkpoint meta-llama/Llama-3.1-8B-Instruct",
    "compare": "compare before.json after.json",
    "compare-no-plan": "compare before.json none.json",
    "compare-same": "compare before.json before.json",
    "compare-again": f"compare before.json {DAY}",
    "compare-again-a-call": f"compare call.json {DAY}",
    "compare-asked-differently": "compare before.json other.json",
    "fleet": f"fleet fleet.yaml -t baseline -t fp8 -t mhc:4x {DAY}",
    "fleet-one-type": f"fleet one.yaml -t baseline {DAY}",
    "fleet-infeasible": f"fleet none.yaml -t baseline {DAY}",
    "sweep": f"sweep study.yaml -o results --report --workers 1 {DAY}",
    "sweep-few": f"sweep study.yaml -o results --workers 1 {DAY}",
    "sweep-refused": "sweep wrong.yaml -o results",
    "load": f"{SERVER} --ttft 2s --tpot 50ms",
    "load-table": f"{SMALL} -t fp8",
    "load-closed": f"{SMALL} --concurrency 24 --ttft 2s",
    "load-closed-limit-broken": f"{SMALL} --concurrency 256 --tpot 1ms",
    "load-open": f"{SMALL} --rate 2/s --burstiness 2 --tpot 50ms --percentile 99%",
    "load-none": f"{SMALL} --ttft 1ms",
    "load-speculative": f"{SERVER} --prefix-hit 80% --speculative 1.6 --draft-share 10% --draft-tokens 2 "
    "--engine sglang -t fp8 --concurrency 16",
    "load-disaggregated": f"{SERVER} --disaggregated 1:2 --price 2/h --ttft 3s --tpot 50ms",
    "load-no-price": f"{SMALL.replace('h100', 'rtx-4090')} --rate 0.5",
    "load-beyond-context": f"load -m llama3-70b -g b200 --isl 16k --osl 1k --concurrency 4 --allow-long-context {DAY}",
    "simulate": f"{TRACE} --replicas 2 --ttft 300ms --tpot 20ms",
    "simulate-find": f"{TRACE} --find-replicas --ttft 150ms --e2e 8s --percentile 90%",
    "simulate-find-none": f"{TRACE} --find-replicas --ttft 1ms",
    "simulate-fails": f"{TRACE} --replicas 3 --fail 1@1min+1min --router round-robin --technique fp8",
    "simulate-autoscale": f"{TRACE} --autoscale 1:3@2+20s --scale 3x --speed 2 --no-prefix-cache",
    "simulate-disaggregated": f"{TRACE} --disaggregated 1:2 --tpot 1ms",
    "simulate-tiers": f"{TRACE} --tp 1 --gpu-memory-utilization 0.25 --scale 5x --tiers cpu,remote --ttft 2s",
    "simulate-closed": f"{TRACE} --concurrency 8 --engine sglang --price 2/h --speculative 1.6",
    "simulate-sent-away": f"simulate --trace huge.csv -m llama3.1-8b -g l4 --allow-long-context --tp 1 {DAY}",
    "simulate-wrong-trace": "simulate --trace wrong.csv -m llama3.1-8b -g h100",
    "audit": f"audit {DAY}",
    "audit-full": f"audit --full {DAY}",
    "audit-own": f"audit claims.yaml {DAY}",
    "prices": f"prices --prices prices.yaml --provider ours {DAY}",
    "prices-none": f"prices --gpu rtx-4090 {DAY}",
    "prices-apis": f"prices --apis --prices apis.yaml --provider our-api {DAY}",
    "prices-own": f"prices --own own.yaml --gpu h200 --gpu h100 {DAY}",
    "show-model": "show model llama3.1-70b",
    "show-model-experts": "show model deepseek-v3",
    "show-model-hybrid": "show model qwen3-next-80b",
    "show-model-encoder-decoder": "show model whisper-large-v3",
    "show-gpu": "show gpu h200",
    "show-gpu-without-bf16": "show gpu v100-32gb",
    "show-technique": "show technique mhc:4x+h2o:20%",
    "show-workload": "show workload doc-qa",
    "show-workload-video": "show workload video-qa",
    "show-workload-own": "show workload workload.yaml",
    "show-engine": "show engine vllm",
    "show-price": "show price vultr",
    "show-profile-kernels": "show profile h100-sxm --kernels gemm",
    "show-profile-attention": "show profile h100-sxm --kernels decode_attention",
    "show-profile-two": "show profile h100-sxm h200 --kernels all_reduce",
    "show-profile-servers": "show profile published",
    "show-profile-rows": "show profile h100-sxm --kernels gemm --rows gemm.csv",
    "show-profile-measured": "show profile mine.yaml",
    "show-profile-measured-two": "show profile mine.yaml faster.yaml",
    "show-profile-without-rows": "show profile faster.yaml",
    "predict-kernels": "predict gemm.csv -o out.csv",
    "predict-servers": "predict serving.csv -o out.csv",
    "predict-result": "predict result.json -o out.csv --set gpu=h100 --set tp=4 --set precision=bf16",
    "validate-kernels": "validate gemm.csv",
    "validate-servers": "validate serving.csv",
    "calibrate-kernels": f"calibrate gemm.csv -o out.yaml {DAY}",
    "calibrate-kernels-check": "calibrate gemm.csv --check",
    "calibrate-servers": f"calibrate serving.csv -o out.yaml {DAY}",
    "calibrate-samples": "calibrate mine.csv -o out.yaml --name again",
    "no-such-model": "estimate -m lama3-70b -c 8k",
    "no-such-kind": "show models nonesuch",
    "wrong-context": "estimate -m llama3-70b -c -5",
    "long-context": "estimate -m llama3-70b -c 128k --on 2026-11-29",
    "text-only": "recommend -w video-qa -m llama3.1-8b -g h100",
    "wrong-usage": "estimate --nonesuch",
    "no-file": "fleet spring",
    "wrong-file": "audit prices.yaml",
}
#: reports over all GPUs, and reports that say how long something took
OVER_ALL, TIMED = {"estimate-by-gpu", "long-context"}, {"calibrate-samples", "sweep", "sweep-few"}
#: reports over the whole catalogue: every entry has its row; rows named here have a golden file
LISTS = {
    "models": ("deepseek-v3", "llama3.1-70b", "whisper-large-v3"),
    "gpus": ("h200", "mi300x", "v100-32gb"),
    "workloads": ("batch-summaries", "doc-qa"),
    "prices": (),
    "techniques": ("h2o", "mhc"),
    "architectures": ("llama",),
    "engines": ("vllm",),
    "profiles": ("h100-sxm", "published"),
    "studies": ("load-curves",),
}
