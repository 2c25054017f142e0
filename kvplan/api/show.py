"""One thing of the catalogue, or profiles, whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvplan import catalog
from kvplan.api import values
from kvplan.catalog.lookup import as_path
from kvplan.catalog.rows.samples import measured_profile, read_samples
from kvplan.errors import KvplanError, SpecError, UnknownName, WrongUse
from kvplan.kv import spelling
from kvplan.perf import kernel_profile
from kvplan.specs.hardware import Price

if TYPE_CHECKING:
    from kvplan.perf.kernel_profile import KernelProfile
    from kvplan.specs.serving_profile import ServingProfile


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing of a kind: what the catalogue knows of it."""

    kind: str  #: model, gpu, technique, ...
    name: str  #: in the catalogue
    thing: Any  #: what the catalogue has of it


@dataclass(frozen=True, kw_only=True)
class Servers:
    """A profile of servers."""

    profile: "ServingProfile"  #: fitted to measured servers


@dataclass(frozen=True, kw_only=True)
class MeasuredProfile:
    """What `kvplan profile` wrote, as it stands in files, and the samples of the first."""

    names: tuple[str, ...]  #: of the files
    profiles: Sequence[Mapping[str, Any]]  #: as they stand in files
    samples: Sequence[Mapping[str, str]]  #: rows of the first, column -> text


@dataclass(frozen=True)
class Checked:
    """Rows of a file: (measured, predicted) times. [s]"""

    title: str  #: of the rows, in words
    times: Sequence[tuple[float, float]]  #: (measured, predicted) [s]


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Profiles of kernels, of one kind where it is named, and the rows that were checked against the first."""

    profiles: "Sequence[KernelProfile]"  #: of one GPU and engine each
    kind: str | None  #: of kernels, None for all
    checked: Checked | None  #: rows beside their predictions, None without


Shown = Item | Servers | MeasuredProfile | Kernels


def prices_of(name: str) -> list[Price]:
    """Return the prices of a GPU, of a provider or of a file."""
    if as_path(name):
        return list(catalog.price_file(name))
    wanted = catalog.gpu_name(name) if name not in catalog.names("prices") else name
    return [p for p in catalog.prices() if wanted in (p.gpu, p.provider)]


def spelled(name: str) -> str:
    """Return a technique as it was written; raise SpecError for one there is not."""
    spelling.parts(name)
    return name


#: what finds a thing of each kind by its name
KINDS: dict[str, Callable[[str], Any]] = {
    "model": lambda name: catalog.model(name),
    "gpu": lambda name: catalog.gpu(name),
    "technique": spelled,
    "workload": lambda name: catalog.workload(name),
    "engine": lambda name: catalog.engine(name),
    "price": prices_of,
}


def show(kind: str, names: str | Iterable[str], *, kernels: str | None = None, rows: str | None = None) -> Shown:
    """Return one model, gpu, technique, workload, engine or price, or one or two profiles.

    Of profiles of kernels, `kernels` names the one kind to show and `rows` a file to check against the first. Raises
    KvplanError for a name or a file that cannot be understood.
    """
    kind = values.word(kind, "kind").removesuffix("s")
    several = values.several(names, "names")
    if not several:
        raise WrongUse(f"names: {unnamed(kind)}")
    kernels, rows = (
        values.given(values.one_of, kernels, "kernels", tuple(kernel_profile.KINDS)),
        values.given(values.word, rows, "rows"),
    )
    if kind == "profile":
        return profiles(several, kernels, rows)
    if kind not in KINDS:
        raise UnknownName("kind", kind, (*KINDS, "profile"))
    if len(several) > 1 or kernels or rows:
        raise SpecError(f"show {kind} takes one name, and neither kernels= nor rows=")
    return Item(kind=kind, name=several[0], thing=KINDS[kind](several[0]))


#: kinds of files that one writes for oneself, and the shelf where each stands
FILES = {"workload": "workloads", "gpu": "gpus"}


def shipped_file(kind: str, names: str | Iterable[str]) -> str:
    """Return the YAML file of a shipped workload or GPU as it stands, to be copied and changed.

    Raises KvplanError for another kind, several names, and a name that is none.
    """
    kind = values.word(kind, "kind").removesuffix("s")
    several = values.several(names, "names")
    if kind not in FILES or len(several) != 1:
        raise SpecError(f"yaml: prints the file of one {' or '.join(FILES)}; name it, as in show workload chat")
    if as_path(several[0]):
        raise SpecError(f"yaml: {several[0]} is a file already; copy it, or name a {kind} as kvplan list {kind}s does")
    return catalog.shipped(FILES[kind], catalog.resolve(FILES[kind], several[0], kind))


def unnamed(word: str) -> str:
    """Return what to write where one word alone was given: the name of a thing without its kind, or a kind alone."""
    if word in KINDS or word == "profile":
        return f"name the {word} to show, as kvplan list {word}s has them"
    for kind, find in KINDS.items():
        try:
            find(word)
        except KvplanError:
            continue
        a = "an" if kind == "engine" else "a"
        return f"{word!r} is {a} {kind}; write its kind first, as in kvplan show {kind} {word}"
    return f"write the kind of thing and its name; the kinds are {', '.join(KINDS)} and profile"


def profiles(names: Sequence[str], kernels: str | None, rows: str | None) -> Servers | MeasuredProfile | Kernels:
    """Return a profile of servers, one or two that `kvplan profile` wrote, or one or two of kernels."""
    if servers := [name for name in names if catalog.is_serving(name)]:
        if len(names) > 1 or kernels or rows:
            raise SpecError(f"show profile {servers[0]}, of servers, takes neither kernels=, rows= nor a second name")
        return Servers(profile=catalog.serving_profile(servers[0]))
    if len(names) > 2:
        raise SpecError(f"show profile compares two profiles at most, got {len(names)}")
    measured = [found for name in names if (found := measured_profile(name))]
    if len(measured) == len(names) and not kernels and not rows:
        return as_measured(names, measured)
    if none := next((profile["name"] for profile, _ in measured if not profile.get("kernels")), None):
        raise SpecError(
            f"profile {none} has no kernels: show it without options, or beside another of `kvplan profile`"
        )
    from kvplan.catalog.rows.tables import kernel_document
    from kvplan.perf.kernel_profile import read_profile

    read = [read_profile(*kernel_document(name)) for name in names]
    return Kernels(profiles=read, kind=kernels, checked=checked(read[0], names[0], rows, kernels) if rows else None)


def as_measured(names: Sequence[str], found: Sequence[tuple[Mapping[str, Any], str]]) -> MeasuredProfile:
    """Return profiles that `kvplan profile` wrote, one of them with the samples of its file."""
    from kvplan.measuring.device.course import COLUMNS

    samples = read_samples(found[0][1], COLUMNS) if len(found) == 1 else []
    return MeasuredProfile(names=tuple(names), profiles=[profile for profile, _ in found], samples=samples)


def checked(profile: "KernelProfile", name: str, rows: str, kernels: str | None) -> Checked:
    """Return a file's rows of a profile's GPUs with their predictions."""
    from kvplan.api.kernel_rows import load
    from kvplan.catalog.rows.tables import base
    from kvplan.perf.kernel_profile import Predictor

    kind, _, _, parsed = load(rows, kernels, measured=True)
    oracle = Predictor([profile], catalog.gpu)
    times = [(r.time, oracle.predict(r.shape).time) for r in parsed if r.time and r.shape.gpu in profile.kernels]
    if not times:
        raise SpecError(f"{rows}: no row of a GPU that profile {name} holds")
    return Checked(f"{kind.name}: {base(rows)} against {name}", times)
