"""How techniques are written and composed: the parts of a name, its one spelling, and what is said of the whole."""

from functools import lru_cache

from kvplan.architectures.formats import FORMATS
from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques import TECHNIQUES, Speed, Support, Technique, has_heads, latents
from kvplan.kv.techniques.technique import ANY
from kvplan.kv.tiers import TIERS
from kvplan.specs.eras import as_numbers
from kvplan.specs.hardware import Engine, Gpu

BASELINE = "baseline"
#: compositions that `estimate` shows and `recommend` tries beside single techniques
COMPARED_TOGETHER = ("mhc:4x+h2o:20%", "mhc:4x+fp8")
SEARCHED_TOGETHER = ("mhc:4x+fp8", "mhc:4x+h2o:20%", "h2o:20%+fp8")


def compared() -> tuple[str, ...]:
    """Return what `estimate` compares when no technique is asked for, the plainest first."""
    return (BASELINE, *(name for kind in plainest_first() for name in kind.compared), *COMPARED_TOGETHER)


def searched() -> tuple[str, ...]:
    """Return what `recommend` tries when no technique is asked for, the plainest first."""
    return (BASELINE, *(name for kind in plainest_first() for name in kind.searched), *SEARCHED_TOGETHER)


def plainest_first() -> list[Technique]:
    """Return all techniques, those that ask least of a model and an engine first."""
    return sorted(TECHNIQUES.values(), key=lambda kind: PLAINEST.index(kind.factor))


@lru_cache(maxsize=1024)
def parts(text: str) -> tuple[tuple[Technique, str], ...]:
    """Split 'mhc:4x+h2o:20%' into its techniques, in the order they act.

    Unknown ones, and pairs that act on the same factor, are refused.
    """
    cleaned = text.strip().lower().replace(" ", "")
    pairs: list[tuple[Technique, str]] = []
    for piece in cleaned.split("+") if cleaned else ():
        if piece in (BASELINE, "none"):
            continue
        kind, argument = one_part(piece)
        for other, other_argument in pairs:
            if other.factor == kind.factor:
                first = f"{other.name}:{other_argument}" if other_argument else other.name
                raise Incompatible(f"{text}: {first} and {piece} both act on the {kind.factor} of the cache; keep one")
        pairs.append((kind, argument))
    return tuple(sorted(pairs, key=lambda part: FACTORS.index(part[0].factor)))


def one_part(piece: str) -> tuple[Technique, str]:
    """Return (kind, argument) of 'mhc:4x'; refuse with the nearest right spelling."""
    name, _, argument = piece.partition(":")
    kind = TECHNIQUES.get(name)
    if kind is None:
        from difflib import get_close_matches

        near = get_close_matches(piece, [k.example for k in TECHNIQUES.values()], n=1, cutoff=0.3)
        near = near or [TECHNIQUES[n].example for n in get_close_matches(name, TECHNIQUES, n=1, cutoff=0.5)]
        raise UnknownName("technique", piece, near, "known: " + ", ".join(k.spelling for k in TECHNIQUES.values()))
    if not argument and kind.spelling.startswith(f"{name}:"):
        raise Incompatible(f"{name} needs a size: write {kind.spelling}, as in {kind.example}")
    if argument and ":" not in kind.spelling:
        raise Incompatible(f"{piece}: {name} takes no size; write {kind.example}")
    return kind, argument.replace(kind.implied, "", 1)


def canonical(text: str) -> str:
    """Return a technique's one spelling, parts in the order they act."""
    return "+".join(f"{kind.name}:{argument}" if argument else kind.name for kind, argument in parts(text)) or BASELINE


def in_words(text: str) -> str:
    """Return a technique as sentences and charts name it: 'uncompressed', 'mhc:4x', 'fp8 cache'.

    What is also a format of weights is said to be the cache's.
    """
    name = canonical(text)
    shared = any(kind.name in FORMATS for kind, _ in parts(name))
    return "uncompressed" if name == BASELINE else f"{name} cache" if shared else name


def kept_in(text: str) -> str:
    """Return the memory in which prefixes wait beside the GPU, '' where a technique keeps none there."""
    return next((TIERS[argument].title for kind, argument in parts(text) if kind.factor == "tier"), "")


def keeps_all(text: str) -> bool:
    """Return whether a technique changes no cache, and only where prefixes wait."""
    return all(kind.factor == "tier" for kind, _ in parts(text))


def together(text: str, weights: str | None) -> str:
    """Return a technique and a weight format as charts name them: 'fp8 cache, fp8 weights'."""
    return f"{in_words(text)}, {weights} weights" if weights else in_words(text)


def clause(text: str, weights: str | None) -> str:
    """Return what follows a model's name: ' with fp8 cache and fp8 weights'; '' where nothing was changed."""
    changed = [in_words(text)] * (canonical(text) != BASELINE) + [f"{weights} weights"] * bool(weights)
    return f" with {' and '.join(changed)}" if changed else ""


#: the order in which techniques act: narrow the vectors, then choose tokens, then round the elements
FACTORS = ("layers", "heads", "width", "tokens", "reads", "bits", "tier")
#: and from what asks least of a model and an engine to what asks most
PLAINEST = ("bits", "tier", "heads", "width", "tokens", "reads", "layers")


def apply(text: str, layout: KVLayout) -> KVLayout:
    """Return the layout under a composition of techniques; Incompatible says why one cannot act on it."""
    for kind, argument in parts(text):
        layout = kind.apply(layout, argument)
    return layout


def quality(text: str) -> str:
    """Return what is published about a technique's accuracy, 'reference' for the baseline."""
    return (
        "; ".join(f"{kind.title}: {kind.quality}" if len(parts(text)) > 1 else kind.quality for kind, _ in parts(text))
        or "reference"
    )


def heals(text: str) -> float:
    """Return the tokens a model must be trained on before it serves with a technique: of its parts, the most."""
    return max((kind.heals for kind, _ in parts(text)), default=0.0)


def served_by(text: str, engine: Engine | str, layout: KVLayout | None = None) -> bool:
    """Whether an engine serves all parts of a technique: in its release, the newest where only a name is given.

    With the uncompressed `layout` of a model: whether it serves them on that model's cache.
    """
    if any(supporting(kind, argument, engine) is None for kind, argument in parts(text)):
        return False
    return isinstance(engine, str) or layout is None or not layout.latent or not refused_on_latents(text, engine)


def refused_on_latents(text: str, engine: Engine) -> tuple[str, ...]:
    """Return the parts of a technique whose number format an engine does not store latents (MLA) in."""
    formats = (
        f"{kind.name}:{argument}" if argument else kind.name for kind, argument in parts(text) if kind.factor == "bits"
    )
    return tuple(f for f in formats if engine.latent_formats and f not in engine.latent_formats)


def supporting(kind: Technique, argument: str, engine: Engine | str) -> Support | None:
    """Return how an engine serves one technique, None where it does not."""
    name = engine if isinstance(engine, str) else engine.name
    release = "" if isinstance(engine, str) or engine.newest else engine.release
    for support in kind.engines:
        fits = support.engine == name and support.only in (None, argument)
        if fits and (not release or as_numbers(support.since) <= as_numbers(release)):
            gone = support.until and (not release or as_numbers(support.until) <= as_numbers(release))
            return None if gone else support
    return None


def runs_on(text: str, gpu: Gpu) -> str:
    """Return why a GPU cannot run a technique, '' where it can."""
    lacking = next((kind for kind, _ in parts(text) if kind.native and not getattr(gpu, kind.native)), None)
    return "" if lacking is None else f"{lacking.title} needs {lacking.needs}; {gpu.title} is none"


def speeds(text: str) -> tuple[Speed, ...]:
    """Return what is known of the speed of a technique's parts, of those of which anything is."""
    known = (kind.speed.get(argument, kind.speed.get(ANY)) for kind, argument in parts(text))
    return tuple(speed for speed in known if speed is not None)


def evicts(text: str) -> bool:
    """Whether a technique drops tokens."""
    return any(kind.factor == "tokens" for kind, _ in parts(text))


def offloads(text: str) -> str:
    """Return the tier in which a technique keeps prefixes, '' for none."""
    return next((argument for kind, argument in parts(text) if kind.factor == "tier"), "")


def remarks(text: str, layout: KVLayout) -> tuple[str, ...]:
    """Return what a technique can and cannot do for this very model."""
    ratios = [argument for kind, argument in parts(text) if kind.name == "mhc"]
    if not ratios:
        return ()
    how = latents(ratios[0])
    heads = [g for g in layout.groups if has_heads(g)]
    whole = "one latent serves all heads, so every tensor-parallel rank stores it whole (as with MLA)"
    grouped = f"a latent serves up to {how.heads} key/value heads; tensor parallelism divides latents, not heads"
    first = f"mhc: {whole if how.heads is None else grouped}"
    if not any(g.rope for g in heads):
        return (first,)
    rotated = {
        "absorbed": "mhc: this model rotates its keys (RoPE), which cannot be absorbed; 64 decoupled elements are "
        "stored beside the latents, as MLA does, and the model must be retrained for them",
        "reconstruct": "mhc: rebuilding keys and values in memory reads and writes them in full; it saves memory, "
        "but is slower than plain attention",
    }
    usual = (
        "mhc: this model rotates its keys (RoPE), so they are rebuilt inside the kernel and only values are absorbed: "
        "fewer heads to a latent take less work"
    )
    return (rotated.get(how.form, usual), first)


def needs(text: str) -> tuple[str, ...]:
    """Return what each part of a technique requires of the model, and which engines serve it."""
    return tuple(
        f"{kind.name}: {kind.needs}; granularity: {kind.granularity}; "
        f"served by {', '.join(engines_of(kind, argument)) or 'no stock engine'}"
        for kind, argument in parts(text)
    )


def engines_of(kind: Technique, argument: str) -> tuple[str, ...]:
    """Return the engines that serve a technique, with release and date."""
    return tuple(str(support) for support in kind.engines if support.only in (None, argument))
