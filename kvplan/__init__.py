"""kvplan: what an LLM workload costs, on which GPUs, with which KV-cache compression."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source checkout kernels/, models/ and profiles/ lie beside kvplan/; installed, they lie inside it.
_here = _Path(__file__).resolve().parent
if not (_here / "models").is_dir() and (_here.parent / "pyproject.toml").is_file():
    __path__.append(str(_here.parent))
