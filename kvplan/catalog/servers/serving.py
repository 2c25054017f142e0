"""Profiles of servers by name or YAML file, and what they say of a GPU."""

from functools import cache

from kvplan.catalog.fields import read_source
from kvplan.catalog.files import Document, called, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.servers.serving_reader import read_serving_profile
from kvplan.catalog.shelves import document, names
from kvplan.errors import SpecError
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import ServingProfile


def serving_profile(word: str = "published") -> ServingProfile:
    """Return what was fitted of servers, by name or YAML file; raise SpecError, UnknownName."""
    path = as_path(word)
    if path is None:
        return _serving_named(resolve("serving", word, "serving profile"))
    return _serving_text(read_text(path, called(path)), called(path))


@cache
def _serving_named(name: str) -> ServingProfile:
    return _serving(document("serving", name), f"{name}.yaml")


@cache
def _serving_text(text: str, location: str) -> ServingProfile:
    return _serving(read_yaml(text, location, typed=True), location)


def _serving(raw: Document, location: str) -> ServingProfile:
    if raw.get("kind") != "serving":
        raise SpecError(f"{location}: is no profile of servers; kvplan calibrate makes one of end-to-end rows")
    return read_serving_profile(raw, read_source(raw.get("source"), location), location)


def is_serving(word: str) -> bool:
    """Return whether a name or a YAML file is a profile of servers."""
    path = as_path(word)
    if path is None or path.suffix not in (".yaml", ".yml"):
        return word in names("serving")
    return _kind(read_text(path, called(path)), called(path)) == "serving"


@cache
def _kind(text: str, location: str) -> object:
    """Return what a YAML file says it is; plans ask it for every GPU."""
    return read_yaml(text, location, typed=False).get("kind")


def calibration(
    device: Gpu,
    engine: str = "vllm",
    about: ModelSpec | None = None,
    profile: str = "published",
    bits: float | None = None,
    named: str = "",
    usual: str = "",
) -> Calibration:
    """Return what a server of this GPU and engine reaches, and how sure that is for a model with weights so wide.

    `named` is the release asked for, `usual` the one whose rules stand where none is.
    """
    servers = serving_profile(profile)
    release = servers.release(device, engine, about, named, usual)
    return servers.calibrate(device, engine, about, release, bits, serving_profile())
