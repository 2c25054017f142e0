"""How a published serving benchmark set its engines' schedulers, by model, GPU and day."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a published serving benchmark set an engine's scheduler, where that is not the engine's default."""

    engine: str  #: its name in the catalogue
    architectures: tuple[str, ...] = ()  #: of the GPUs it was set for, () for all
    gpus: tuple[str, ...] = ()  #: names of the GPUs it was set for, () for all
    models: tuple[str, ...] = ("",)  #: what the model types begin with that it was set for
    formats: tuple[float, float] = (0.0, 16.0)  #: widths of weights that it was set for: beyond, and up to [bit]
    since: str = ""  #: the day from which it was set, YYYY-MM-DD, '' for the first
    until: str = "9"  #: the day from which it no longer was
    ranks: int = 1  #: attention-data-parallel ranks from which it was set
    crowd: float = 1.0  #: requests in flight from which `many` and `hold` hold
    few: float = 1.0  #: decode steps from one look for new requests to the next, for fewer requests
    many: float = 1.0  #: the same, for so many or more
    lengths: tuple[float, ...] = ()  #: nominal prompt and output that it was set for [token], () for all
    tensor: int = 1_000  #: tensor-parallel ranks below which it was set
    hold: float = 0.0  #: decode steps for which a prompt is held for others to be read with it
    budget: float = 0.0  #: prompt tokens that one step takes, at least, 0 for the engine's default [token]
    prompts: float = 0.0  #: the same in nominal prompts
    decoding: bool = False  #: whether one of its tokens is added for every request in flight, and 96
    waves: float = 0.0  #: requests that each slot sends, 0 for the script's usual ones

    def tokens(self, prompt: float, concurrency: float) -> float:
        """Return the prompt tokens that one step takes, 0 for the engine's default."""
        return max(self.budget, self.prompts * prompt + self.decoding * (concurrency + MARGIN))


#: what recipes are of, in short
BLACKWELL, DEEPSEEK, QWEN = ("blackwell",), ("deepseek_v3",), ("qwen3_5",)
FOUR_BITS, EIGHT_BITS, QUANTISED = (0.0, 5.0), (5.0, 8.6), (0.0, 8.6)
#: tokens added to a budget that follows prompts, rounding included
MARGIN = 96.0
#: day of the first commit of the published benchmarks
BEGUN = "2025-08-12"
#: day from which the published benchmarks warm a server up with two requests a slot (commit d053ae24)
WARMED = "2026-01-21"

#: SemiAnalysisAI/InferenceX@843c625, benchmarks/single_node/fixed_seq_len, and its history
RECIPES = (
    # dsr1_fp4_b200.sh and its sibling on B300; dsr1_fp8_b200.sh on four GPUs, and on eight. runners/launch_b200-nvd.sh
    # sent 50 requests a slot until warm-up came
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=DEEPSEEK, formats=FOUR_BITS, until=WARMED, crowd=16.0,
        few=10.0, many=30.0, budget=16384.0, waves=50.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=DEEPSEEK, formats=FOUR_BITS, crowd=16.0, few=10.0,
        many=30.0, budget=16384.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=DEEPSEEK, until=WARMED, crowd=16.0, few=10.0,
        many=30.0, budget=32768.0, waves=50.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=DEEPSEEK, tensor=8, few=10.0, many=10.0,
        budget=8192.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=DEEPSEEK, crowd=16.0, few=10.0, many=30.0,
        budget=32768.0,
    ),
    # qwen3.5_fp8_b300.sh, which came on 2026-04-17; qwen3.5_fp8_b200.sh and fp4 since 2026-04-30; and before, as that
    # of 16-bit weights and fp4 on B300 still are
    Recipe(
        engine="sglang", gpus=("b300",), models=QWEN, formats=EIGHT_BITS, since="2026-04-17", few=10.0,
        many=10.0, budget=16384.0,
    ),
    Recipe(
        engine="sglang", gpus=("b200",), models=QWEN, formats=QUANTISED, since="2026-04-30", crowd=5.0, few=10.0,
        many=30.0, budget=16384.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=QWEN, crowd=16.0, few=10.0, many=30.0,
        budget=32768.0,
    ),
    # glm5_nvfp4_b200.sh until 2026-04-09, glm5_fp4_b300.sh since; glm5_fp8_b200.sh and b300
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=("glm",), formats=FOUR_BITS, until="2026-04-09",
        budget=131072.0,
    ),
    Recipe(
        engine="sglang", architectures=BLACKWELL, models=("glm",), formats=FOUR_BITS, few=10.0, many=10.0,
        budget=32768.0,
    ),
    Recipe(engine="sglang", architectures=BLACKWELL, models=("glm",), budget=32768.0),
    # dsr1_fp8_h200.sh; qwen3.5_fp8_h200.sh
    Recipe(engine="sglang", architectures=("hopper",), models=DEEPSEEK, budget=32768.0),
    Recipe(engine="sglang", architectures=("hopper",), models=QWEN, budget=16384.0),
    # dsr1_fp8_mi300x.sh, dsr1_fp8_mi325x.sh (196608 before 2026-01-22) and dsr1_fp8_mi355x.sh; they also say
    # num-continuous-decode-steps 4 or 8, which no code of SGLang 0.5.9 reads
    Recipe(engine="sglang", architectures=("cdna3",), models=DEEPSEEK, budget=131072.0),
    Recipe(engine="sglang", architectures=("cdna4",), models=DEEPSEEK, budget=196608.0),
    # qwen3.5_fp8_mi300x.sh and its siblings
    Recipe(engine="sglang", architectures=("cdna3", "cdna4"), models=QWEN, many=30.0, budget=32768.0),
    # gptoss_fp4_b200_trt.sh and gptoss_fp4_h200_trt.sh, whose ranks are balanced as the next ones
    Recipe(engine="trtllm", models=("gpt_oss",), ranks=2, many=60.0, budget=20000.0),
    Recipe(engine="trtllm", models=("gpt_oss",), budget=20000.0),
    # dsr1_fp8_h200_trt.sh and its siblings: max_num_tokens of one prompt and a token for every request, 8,192 or more
    # since evaluations run on the same server; they balance the ranks of attention data parallelism: a prompt waits up
    # to timeout_iters = 60 steps until the others have one too. dsr1_fp8_b200_trt.sh from 2026-01-29:
    # batch_wait_timeout_iters 40 from 64 requests of 1,024 tokens in and out
    Recipe(engine="trtllm", models=DEEPSEEK, ranks=2, until=WARMED, many=60.0, prompts=1.0, decoding=True),
    Recipe(engine="trtllm", models=DEEPSEEK, until=WARMED, prompts=1.0, decoding=True),
    Recipe(engine="trtllm", models=DEEPSEEK, ranks=2, many=60.0, budget=8192.0, prompts=1.0, decoding=True),
    Recipe(engine="trtllm", models=DEEPSEEK, formats=FOUR_BITS, budget=8192.0, prompts=1.0, decoding=True),
    Recipe(
        engine="trtllm", gpus=("b200",), models=DEEPSEEK, since="2026-01-29", crowd=64.0,
        lengths=(1024.0, 1024.0), hold=40.0, budget=8192.0, prompts=1.0, decoding=True,
    ),
    Recipe(engine="trtllm", models=DEEPSEEK, budget=8192.0, prompts=1.0, decoding=True),
    Recipe(engine="trtllm", ranks=2, many=60.0),
    # 70b_fp4_b200_trt_slurm.sh and its siblings (of 2025): batch_wait_timeout_iters 20 for 1,024 tokens in and out,
    # max_num_tokens 16384
    Recipe(engine="trtllm", models=("llama",), lengths=(1024.0, 1024.0), tensor=8, hold=20.0, budget=16384.0),
    Recipe(engine="trtllm", models=("llama",), budget=16384.0),
    # minimaxm2.5_fp8_b200.sh and its siblings: max-num-batched-tokens of two prompts (not those of Hopper, which leave
    # it out until 2026-05)
    Recipe(engine="vllm", architectures=BLACKWELL, models=("minimax",), prompts=2.0),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a benchmark's server was: what its recipe depends on."""

    engine: str  #: its name in the catalogue
    gpu: str  #: its GPU's name in the catalogue
    architecture: str  #: of its GPUs
    model_type: str  #: of the model's config
    bits: float  #: width of its weights [bit]
    tensor: int  #: tensor-parallel ranks
    ranks: int  #: attention-data-parallel ranks
    lengths: tuple[float, float]  #: nominal prompt and output [token]
    concurrency: float  #: requests in flight
    day: str  #: of its run, YYYY-MM-DD, '' where that is not stated


def recipe_of(who: Setting) -> Recipe | None:
    """Return how published benchmarks set the scheduler of such a server, None where they left it as it was."""
    for recipe in RECIPES:
        here = (not recipe.architectures or who.architecture in recipe.architectures) and (
            not recipe.gpus or who.gpu in recipe.gpus
        )
        then = recipe.since <= (who.day or "8") < recipe.until
        shape = who.ranks >= recipe.ranks and who.tensor < recipe.tensor and recipe.lengths in ((), who.lengths)
        asked = (
            who.engine == recipe.engine
            and who.model_type.startswith(recipe.models)
            and recipe.formats[0] < who.bits <= recipe.formats[1]
        )
        if asked and here and then and shape and (not recipe.hold or who.concurrency >= recipe.crowd):
            return recipe
    return None
