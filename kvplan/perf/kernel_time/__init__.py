"""How long one kernel takes: tiles, waves, bytes and rates, with few coefficients that each mean something.

Every kernel is written in two steps. `*_work` turns a shape and the library's discrete choices (tile, splits, blocks an
SM) into counted quantities; `*_algebra` turns these and the coefficients of a (GPU, engine, kernel, dtype) into a time.
The algebra uses only `+ - * / ** abs`, so that a fit may pass numpy arrays where a prediction passes floats.

Sources: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; NVIDIA, "Matrix Multiplication Background"
(tile and wave quantisation); Dao-AILab/flash-attention hopper/heuristics.h (splits); Thakur et al., IJHPCA 19(1), 2005
(rings).
"""

from kvplan.perf.kernel_time.all_reduce import AllReduceCoefficients, AllReduceWork, all_reduce_algebra, all_reduce_work
from kvplan.perf.kernel_time.decode import DecodeCoefficients, DecodeWork, decode_algebra, decode_work
from kvplan.perf.kernel_time.gemm import TILES, GemmCoefficients, GemmWork, gemm_algebra, gemm_work
from kvplan.perf.kernel_time.grid import SPLITS, flash_attention_parts
from kvplan.perf.kernel_time.latent import (
    HEAD_TILES,
    LATENT_KEY,
    LatentCoefficients,
    LatentWork,
    latent_algebra,
    latent_work,
)
from kvplan.perf.kernel_time.prefill import (
    PrefillCoefficients,
    PrefillWork,
    causal_tiles,
    prefill_algebra,
    prefill_work,
)

__all__ = [
    "HEAD_TILES", "LATENT_KEY", "SPLITS", "TILES", "AllReduceCoefficients", "AllReduceWork", "DecodeCoefficients",
    "DecodeWork", "GemmCoefficients", "GemmWork", "LatentCoefficients", "LatentWork", "PrefillCoefficients",
    "PrefillWork", "all_reduce_algebra", "all_reduce_work", "causal_tiles", "decode_algebra", "decode_work",
    "flash_attention_parts", "gemm_algebra", "gemm_work", "latent_algebra", "latent_work", "prefill_algebra",
    "prefill_work",
]  # fmt: skip
