"""kvplan: what an LLM workload costs, on which GPUs, with which KV-cache compression."""

from pathlib import Path as _Path

__version__ = "0.1.0"

#: this package's folder, and the one that holds kernels/, models/ and profiles/: the same when installed, in a source
#: checkout the one above
CODE = DATA = _Path(__file__).resolve().parent
if not (DATA / "models").is_dir() and (DATA.parent / "pyproject.toml").is_file():
    DATA = DATA.parent
    __path__.append(str(DATA))
