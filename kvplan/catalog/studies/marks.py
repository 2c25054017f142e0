"""What an answer stands on, as digests: kvplan itself, the data it ships, and the files a question names."""

from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path

from kvplan import CODE, DATA, __version__
from kvplan.catalog.checkpoints.hub_files import described
from kvplan.catalog.checkpoints.models import model
from kvplan.catalog.files import called
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import shipped
from kvplan.errors import KvplanError, SpecError, UnknownName

#: shelves that every answer may rest on; of the others only what a question names
SHELVES = ("apis", "calibrations", "engines", "ownership", "prices", "quality", "serving")
#: parameters that name an entry of a shelf, or a file
KINDS = {"model": "models", "gpu": "gpus", "gpus": "gpus", "workload": "workloads"}
#: parameters that name files, or what stands on one of SHELVES
FILES = ("profile", "prices", "own", "quality", "trace")
#: files of a model's folder that its reader looks at, beside the one that describes it
BESIDE = ("hf_quant_config.json", "model.safetensors.index.json")
#: larger files count by their size and time alone [B]
LARGE = 64_000_000
#: letters of a digest
LENGTH = 32


def digest(*contents: bytes) -> str:
    """Return the digest of several contents, each of which counts with its length."""
    mark = blake2b(digest_size=LENGTH // 2)
    for content in contents:
        mark.update(len(content).to_bytes(8, "little"))
        mark.update(content)
    return mark.hexdigest()


@cache
def foundation() -> str:
    """Return the digest of this kvplan: its release, its code and the shelves that every answer may rest on."""
    code = sorted(CODE.rglob("*.py"), key=lambda path: path.relative_to(CODE).as_posix())
    data = sorted(path for kind in SHELVES for path in (DATA / "profiles" / kind).glob("*.yaml"))
    return digest(__version__.encode(), *(part for path in (*code, *data) for part in (path.name.encode(), _of(path))))


def standing(parameter: str, words: Iterable[str]) -> str:
    """Return the digest of what the words of a parameter stand for, '' where it names no data; raise KvplanError."""
    if parameter in KINDS:
        return digest(*(_named(KINDS[parameter], word) for word in words))
    if parameter in FILES:
        return digest(*(_file(word) for word in words))
    return ""


def _named(kind: str, word: str) -> bytes:
    if path := as_path(word):
        return _content(path)
    try:
        return shipped(kind, resolve(kind, word, kind)).encode()
    except UnknownName:
        if kind != "models":
            raise
        return repr(model(word)).encode()  # an upload, known by its name or from the hub's cache


def _file(word: str) -> bytes:
    try:
        path = as_path(word) or Path(word)
        return _content(path) if path.exists() else word.encode()  # a name: the foundation has its shelf
    except (KvplanError, OSError, ValueError):
        return word.encode()


def _content(path: Path) -> bytes:
    if path.is_dir():
        beside = (path / name for name in BESIDE if (path / name).is_file())
        return b"".join(_of(file) for file in (*described(path), *beside))
    return _of(path)


def _of(path: Path) -> bytes:
    try:
        about = path.stat()
        if about.st_size > LARGE:
            return f"{about.st_size} {about.st_mtime_ns}".encode()
        return blake2b(path.read_bytes()).digest()
    except OSError as error:
        raise SpecError(f"{called(path)}: cannot be read ({error.strerror or error})") from None
