"""kvplan: what an LLM workload costs, on which GPUs, with which KV-cache compression.

    import kvplan
    plan = kvplan.recommend("doc-qa", "llama3.1-70b", queries_per_day=40_000, ttft="5s")
    print(plan.plan.gpu, plan.plan.gpus, plan.usd)

Each name takes names and values (`"llama3.1-70b"`, `"128k"`, `"5s"`) and returns a frozen result in base units,
which shows itself: in a notebook as its report, `.to_dict()` as the document of the command, `.to_pandas()` as a table.
"""

from importlib import import_module as _import
from pathlib import Path as _Path
from typing import TYPE_CHECKING

__version__ = "0.2.0"
#: what one can call; each stands in the file of its name in `kvplan.api` and is imported when it is used
__all__ = [
    "audit", "calibrate", "capacity", "compare", "estimate", "evaluate", "fleet", "load", "memory", "predict",
    "profile", "recommend", "simulate", "sweep", "techniques", "validate",
]  # fmt: skip

if TYPE_CHECKING:
    from kvplan.api.audit import audit
    from kvplan.api.calibrate import calibrate
    from kvplan.api.capacity import capacity
    from kvplan.api.compare import compare
    from kvplan.api.estimate import estimate
    from kvplan.api.evaluate import evaluate
    from kvplan.api.fleet import fleet
    from kvplan.api.load import load
    from kvplan.api.memory import memory
    from kvplan.api.predict import predict
    from kvplan.api.profile import profile
    from kvplan.api.recommend import recommend
    from kvplan.api.simulate import simulate
    from kvplan.api.sweep import sweep
    from kvplan.api.techniques import techniques
    from kvplan.api.validate import validate

#: this package's folder, and the one that holds kernels/, models/ and profiles/: the same when installed, in a source
#: checkout the one above
CODE = DATA = _Path(__file__).resolve().parent
if not (DATA / "models").is_dir() and (DATA.parent / "pyproject.toml").is_file():
    DATA = DATA.parent
    __path__.append(str(DATA))


def __getattr__(name: str) -> object:
    if name not in __all__:
        hint = "" if name.startswith("_") else _import("kvplan.errors").meant(name, __all__)
        raise AttributeError(f"module 'kvplan' has no attribute {name!r}{hint}")
    return getattr(_import(f"kvplan.api.{name}"), name)


def _shown(result: object, form: str) -> object:
    """Return a result in a form of `kvplan.cli.notebook`: results know this door alone, and rooms import one way."""
    return getattr(_import("kvplan.cli.notebook"), form)(result)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
