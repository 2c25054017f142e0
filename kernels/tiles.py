"""Which tile a kernel runs with on which GPU: one table of configurations, and one function that picks from it.

A row of `TABLE` serves shapes up to a width and a number of heads; rows stand best first, and `tiles` takes the first
one whose shared memory fits. `shared` predicts that memory: what a program holds throughout, a copy of what each step
loads for every step in flight, and scratch. The compiler's own figure is never above it, by
`tests/test_kernels_compile.py`. To tune, reorder rows or add some.
"""

from dataclasses import dataclass

#: shared memory one program may use, by compute capability [bytes]: "maximum shared memory per thread block" in
#: NVIDIA's tuning guides of Ampere, Ada, Hopper and Blackwell
SHARED = {
    80: 163 << 10, 86: 99 << 10, 87: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 103: 227 << 10,
    110: 227 << 10, 120: 99 << 10, 121: 99 << 10,
}  # fmt: skip
#: LDS of a CDNA 3 compute unit [bytes] (AMD Instinct MI300 instruction set architecture, section 2)
SHARED_HIP = 64 << 10
#: how often sequences are split: programs counted on a multiprocessor at once, tiles a split gets at least, the waves
#: of programs that are tried at most, and the tiles that a program could have done while it starts
PROGRAMS_PER_SM, TILES_PER_SPLIT, MOST_WAVES, START = 2, 2, 4, 1
#: barriers and reductions [bytes]
SLACK = 1 << 10
ANY = 1 << 30


@dataclass(frozen=True)
class Config:
    """How one kernel is cut up: rows (heads or queries) and tokens per tile, warps per program, pipeline stages.

    `turned`: tokens are the rows of products and heads the columns; `together`: KV heads whose keys one program
    rebuilds, where so many heads of queries fit its rows.
    """

    rows: int
    tokens: int
    warps: int
    stages: int
    turned: bool = False
    together: int = 1

    @property
    def launch(self) -> dict[str, int]:
        """Return the keywords a Triton launch takes."""
        return {"num_warps": self.warps, "num_stages": self.stages}


@dataclass(frozen=True)
class Gpu:
    """What a choice depends on: compute capability (0: not an NVIDIA GPU) and shared memory per program [bytes].

    `fp8`: the 8-bit formats it computes with, as torch names them.
    """

    capability: int
    shared: int
    fp8: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"sm_{self.capability}" if self.capability else "this GPU"


def nvidia(capability: int, shared: int | None = None) -> Gpu:
    """Return an NVIDIA GPU by its compute capability; an unknown one has the least shared memory known."""
    room = SHARED.get(capability, min(SHARED.values())) if shared is None else shared
    return Gpu(capability, room, ("float8_e4m3fn",) if capability >= 89 else ())


def amd(architecture: str) -> Gpu:
    """Return an AMD GPU by its architecture: gfx94x (MI300) counts its 8-bit exponents another way than all others."""
    return Gpu(0, SHARED_HIP, ("float8_e4m3fnuz",) if architecture.startswith("gfx94") else ("float8_e4m3fn",))


@dataclass(frozen=True)
class Shape:
    """What a tile is chosen for.

    `family`: a key of `TABLE`; `width`: head dim, or the larger rank; `heads`: query heads that share what is read;
    `itemsize`: bytes of a stored element; `beside`: the rotary part of an absorbed latent, or the head dim of rebuilt
    keys; `rotated`: keys are rotated when read, by tables of `turn` bytes an element; `logits`: logits are stored.
    """

    family: str
    width: int
    heads: int = 1
    itemsize: float = 2
    beside: int = 0
    rotated: bool = False
    logits: bool = False
    turn: int = 4


@dataclass(frozen=True)
class Row:
    """One row of the table: the largest width and number of heads it serves, its tile, and on which GPUs.

    `since`: the least compute capability; products of warp groups leave more registers free.
    """

    width: int
    heads: int
    config: Config
    since: int = 0


def row(
    width: int, heads: int, rows: int, tokens: int, warps: int, stages: int, since: int = 0, turned: bool = False,
    together: int = 1,
) -> Row:  # fmt: skip
    """Return a row of the table."""
    return Row(width, heads, Config(rows, tokens, warps, stages, turned, together), since)


#: (family, bytes of a stored element) -> rows, best first; three stages keep 64 KB of a decode in flight
TABLE: dict[tuple[str, float], tuple[Row, ...]] = {
    ("decode", 2): (
        row(64, 16, 16, 128, 4, 3),
        row(128, 16, 16, 64, 4, 3),
        row(256, 16, 16, 32, 4, 3),
        row(64, ANY, 64, 64, 4, 3),
        row(128, ANY, 64, 64, 4, 3),
        row(256, ANY, 32, 32, 4, 3),
        row(256, ANY, 16, 32, 4, 2),
    ),
    ("decode", 4): (row(256, ANY, 16, 16, 4, 2),),
    # int8 and int4 are bound by instructions, of which a tile of 128 tokens needs a quarter less per token;
    # before sm_90 int8 spills registers with it
    ("quantised", 1): (
        row(64, ANY, 16, 64, 4, 4),
        row(128, ANY, 16, 128, 4, 3, since=90),
        row(128, ANY, 16, 64, 4, 4),
        row(256, ANY, 16, 64, 8, 3),
        row(256, ANY, 16, 64, 8, 2),
    ),
    ("quantised", 0.5): (row(64, ANY, 16, 64, 4, 4), row(128, ANY, 16, 128, 4, 3), row(256, ANY, 16, 64, 8, 3)),
    ("quantised fp8", 1): (row(128, ANY, 16, 64, 4, 4), row(256, ANY, 16, 64, 8, 3), row(256, ANY, 16, 64, 8, 2)),
    ("absorbed", 2): (
        row(128, 16, 16, 64, 4, 3),
        row(128, ANY, 64, 64, 4, 3),
        row(256, 16, 16, 64, 4, 3),
        row(256, 32, 32, 64, 4, 3),
        row(256, 32, 32, 64, 4, 2),
        row(256, ANY, 64, 64, 8, 3),
        row(256, ANY, 64, 64, 8, 2),
        # 16 and 32 heads in the rows of products load the query again for every tile, as long as the latent takes
        row(512, 16, 16, 32, 4, 2, since=100),
        row(512, 32, 32, 32, 8, 3, since=100),
        row(512, 16, 16, 64, 4, 2, since=90, turned=True),
        row(512, 32, 32, 64, 4, 2, since=90, turned=True),
        row(512, 16, 16, 32, 4, 2),
        row(512, 32, 32, 32, 8, 3),
        row(512, 32, 32, 32, 8, 2),
        row(512, ANY, 64, 64, 8, 2, since=90),
        row(512, ANY, 64, 32, 8, 2),
        row(512, ANY, 32, 32, 8, 2),
        row(512, ANY, 16, 32, 4, 2),
    ),
    ("absorbed", 4): (row(512, ANY, 16, 16, 4, 1),),
    # no tile tried at 512 both pipelines its loads and spills nothing
    ("absorbed", 1): (
        row(128, ANY, 64, 64, 4, 3, since=90),
        row(128, ANY, 32, 64, 4, 3),
        row(256, ANY, 64, 64, 8, 3, since=90),
        row(256, ANY, 32, 32, 4, 3),
    ),
    ("fused", 2): (
        row(127, ANY, 16, 32, 4, 2),  # masks of ranks that fill no tile take registers
        # latents and tables come through the L2 once for two KV heads, and twice as many of a product's rows are used
        row(128, ANY, 16, 64, 4, 2, since=100),
        row(128, ANY, 16, 64, 4, 2, since=90, together=2),
        row(128, ANY, 16, 64, 4, 2),
        row(128, ANY, 16, 32, 4, 2),
        row(256, ANY, 16, 32, 8, 3),
        row(256, ANY, 16, 32, 8, 2),
        row(256, ANY, 16, 16, 4, 2),
        row(512, ANY, 16, 32, 8, 2),
    ),
    ("fused", 4): (row(512, ANY, 16, 16, 4, 1),),
    ("streaming", 2): (
        row(128, ANY, 16, 64, 4, 3),
        row(128, ANY, 16, 64, 4, 2),
        row(256, ANY, 16, 32, 4, 3),
        row(256, ANY, 16, 32, 4, 2),
    ),
    ("streaming", 4): (row(256, ANY, 16, 16, 8, 2),),
    ("prefill", 2): (
        row(64, ANY, 128, 64, 4, 3, since=90),
        row(64, ANY, 64, 64, 4, 3),
        row(128, ANY, 128, 128, 8, 2, since=90),
        row(128, ANY, 128, 32, 8, 2),
        row(128, ANY, 64, 32, 4, 2),
        row(256, ANY, 128, 32, 8, 2, since=90),
        row(256, ANY, 64, 32, 8, 2),
        row(256, ANY, 32, 32, 4, 2),
    ),
    ("prefill", 4): (row(256, ANY, 32, 32, 4, 1),),
    ("prompt scores", 2): (
        row(64, ANY, 64, 128, 4, 3),
        row(128, ANY, 64, 128, 8, 3),
        row(256, ANY, 32, 64, 8, 2),
    ),
    ("prompt scores", 4): (row(256, ANY, 32, 32, 4, 1),),
}
#: what a width is called in messages
WIDTHS = {"absorbed": "rank", "fused": "rank"}


def power_of_two(n: int) -> int:
    """Return the width [elements, 16 or more] of a tile that holds n."""
    return max(16, 1 << (n - 1).bit_length())


def shared(shape: Shape, config: Config, capability: int = 90) -> int:
    """Return the shared memory one program needs at most [bytes]."""
    size, width = max(2.0, shape.itemsize), power_of_two(shape.width)  # codes become 16-bit numbers
    rows, tokens = config.rows, config.tokens
    beside = power_of_two(shape.beside) if shape.beside else 0
    held, step, scratch = 0.0, 2 * tokens * width * shape.itemsize, rows * tokens * size
    long = rows  # the rows of the product whose operand is read from memory: 64 of them use wgmma or tcgen05
    if shape.family in ("decode", "prefill", "streaming", "quantised", "quantised fp8"):
        held = rows * width * size
        if shape.family.startswith("quantised"):
            scratch *= 2  # the weights of both halves
        if shape.rotated:
            step += shape.turn * tokens * width  # cos and sin
            scratch += tokens * width * size if size > 2 else 0
    elif shape.family == "absorbed":
        held = rows * (width + beside) * size
        step = tokens * (width + beside) * shape.itemsize
        long = tokens if config.turned else rows
        if shape.itemsize < 2 and capability < 90:
            held += 2 * tokens * width * size  # converted, once as keys and once as values
    elif shape.family == "fused":
        together = config.together if config.together * shape.heads <= rows else 1
        # both halves of keys at once when nothing is rotated, or several heads are
        keys = tokens / 2 if shape.rotated and together == 1 else tokens
        held = (rows + width + keys) * beside * together * size  # query, projection, keys
        step = 2 * tokens * width * size + (shape.turn * tokens * beside if shape.rotated else 0)
        long = tokens
    else:  # prompt scores: keys stay, queries pass
        held, step, scratch = tokens * width * size, rows * (width * size + 4), tokens * 16.0
    grouped = capability >= 90 and long >= 64 and size == 2
    copies = max(1, config.stages - 1)
    if grouped:
        if shape.itemsize < 2:
            held += tokens * (width + beside) * 2 if capability < 100 else 0  # converted on the way
        elif shape.family == "fused":
            held += tokens * width * size  # only the keys' latent is an operand in memory
        else:
            copies = config.stages
        if shape.family != "prompt scores":
            scratch = scratch if shape.family == "fused" or config.turned else 0.0
        if capability >= 100 and shape.family == "absorbed" and shape.itemsize == 2:
            held += tokens * width * 2 * (2 if beside else 1)
    logits = rows * tokens * 2 if shape.logits else 0
    return int(held + copies * step + scratch + logits) + SLACK


def tiles(shape: Shape, gpu: Gpu) -> Config:
    """Return the best tile for a shape that fits a GPU; ValueError when none is wide enough or none fits."""
    what = WIDTHS.get(shape.family, "head_dim")
    rows = TABLE.get((shape.family, shape.itemsize), ())
    if not rows:
        raise ValueError(f"{shape.family}: no kernel reads elements of {shape.itemsize:g} bytes")
    widest = max(one.width for one in rows)
    wide = [
        one.config
        for one in rows
        if shape.width <= one.width and shape.heads <= one.heads and gpu.capability >= one.since
    ]
    if not wide:
        raise ValueError(f"{what} {shape.width}: {shape.family} attention takes at most {widest}")
    for config in wide:
        if shared(shape, config, gpu.capability) <= gpu.shared:
            return config
    least = min(shared(shape, config, gpu.capability) for config in wide)
    raise ValueError(
        f"{what} {shape.width}: {shape.family} attention needs {least:,} bytes of shared memory a program, "
        f"{gpu.name} has {gpu.shared:,}"
    )
