"""Weights: those of the small model that kvplan ships, and latents learned for a user's own."""

from pathlib import Path

from kvplan import CODE
from kvplan.catalog.files import path_of, read_bytes, writing_bytes
from kvplan.catalog.lookup import as_path
from kvplan.errors import SpecError, UnknownName

#: the name of the shipped model; a colon and a seed choose another training of it
RECALL = "recall"
#: what a folder of latents holds, and the most that is read of one [B]
LATENTS, LARGEST = "latents.safetensors", 2**34


def recall_weights(word: str) -> bytes | None:
    """Return the weights of a shipped model by its name, None for a word that is no name of it."""
    name, _, seed = word.partition(":")
    if name != RECALL:
        return None
    folder = CODE / "compress" / "weights"
    known = sorted(path.stem.partition("-")[2] for path in folder.glob("recall-*.safetensors"))
    if (seed or "0") not in known:
        raise UnknownName("model", word, [f"{RECALL}:{n}" for n in known])
    return (folder / f"recall-{seed or '0'}.safetensors").read_bytes()


def model_folder(word: str) -> str:
    """Return the folder of a model's weights as a path; SpecError says what to write instead."""
    path = as_path(word)
    if path is None:
        raise SpecError(f"{word}: its weights are needed here: write a folder that holds them, or {RECALL}")
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").is_file():
        raise SpecError(f"{folder}: holds no config.json")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise SpecError(f"{folder}: holds no weights (*.safetensors)")
    return str(folder)


def read_latents(word: str) -> bytes:
    """Return the latents that `kvplan compress` wrote into a folder; SpecError where there are none."""
    folder = path_of(word)
    path = folder / LATENTS if folder.is_dir() else folder
    if not path.is_file():
        raise SpecError(f"{word}: holds no {LATENTS}; kvplan compress writes one")
    return read_bytes(path, str(path), LARGEST)


def write_latents(word: str, content: bytes) -> str:
    """Write latents into a folder, made if need be; return the file."""
    folder = path_of(word)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{word}: cannot be made ({error.strerror or error})") from None
    path = Path(folder / LATENTS)
    with writing_bytes(path) as file:
        file.write(content)
    return str(path)


def running_text(word: str) -> str:
    """Return a text file's words, of which perplexity is measured."""
    text = read_bytes(path_of(word), word).decode("utf-8", "replace")
    if not text.strip():
        raise SpecError(f"{word}: the file holds no text to measure perplexity on")
    return text
