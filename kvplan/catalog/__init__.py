"""The only room that reads and writes files: `catalog.model("llama3-70b")`, `catalog.gpu("./mine.yaml")`, ...

Names, aliases and paths are interchangeable everywhere. Each name below is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvplan.catalog.cards import gpu_name as gpu_name
    from kvplan.catalog.claim_files import claim_list as claim_list
    from kvplan.catalog.drafts import acceptances as acceptances
    from kvplan.catalog.engines import described as described
    from kvplan.catalog.engines import described_releases as described_releases
    from kvplan.catalog.engines import engine as engine
    from kvplan.catalog.engines import fitted_engine as fitted_engine
    from kvplan.catalog.engines import releases as releases
    from kvplan.catalog.engines import stated_engine as stated_engine
    from kvplan.catalog.fleets import fleet as fleet
    from kvplan.catalog.gpus import gpu as gpu
    from kvplan.catalog.handed import handed_over as handed_over
    from kvplan.catalog.hub_files import online as online
    from kvplan.catalog.lookup import resolve as resolve
    from kvplan.catalog.manifests import manifest_text as manifest_text
    from kvplan.catalog.metrics import located as located
    from kvplan.catalog.models import all_models as all_models
    from kvplan.catalog.models import lost as lost
    from kvplan.catalog.models import model as model
    from kvplan.catalog.models import tuned as tuned
    from kvplan.catalog.owning import DEFAULT as DEFAULT
    from kvplan.catalog.owning import api_file as api_file
    from kvplan.catalog.owning import apis as apis
    from kvplan.catalog.owning import ownership as ownership
    from kvplan.catalog.rental import all_prices as all_prices
    from kvplan.catalog.rental import offers as offers
    from kvplan.catalog.rental import offers_by_gpu as offers_by_gpu
    from kvplan.catalog.rental import price_document as price_document
    from kvplan.catalog.rental import price_file as price_file
    from kvplan.catalog.rental import price_list as price_list
    from kvplan.catalog.rental import prices as prices
    from kvplan.catalog.rental import terms as terms
    from kvplan.catalog.rental import write_prices as write_prices
    from kvplan.catalog.saved import plan_path as plan_path
    from kvplan.catalog.saved import save_plan as save_plan
    from kvplan.catalog.saved import saved_plan as saved_plan
    from kvplan.catalog.scores import quality_file as quality_file
    from kvplan.catalog.scores import quality_table as quality_table
    from kvplan.catalog.serving import calibration as calibration
    from kvplan.catalog.serving import is_serving as is_serving
    from kvplan.catalog.serving import serving_profile as serving_profile
    from kvplan.catalog.shelves import names as names
    from kvplan.catalog.shelves import shelf as shelf
    from kvplan.catalog.shelves import shipped as shipped
    from kvplan.catalog.sweeps import study as study
    from kvplan.catalog.workloads import all_workloads as all_workloads
    from kvplan.catalog.workloads import workload as workload

#: file -> what it offers
_OFFERS = {
    "claim_files": ("claim_list",),
    "drafts": ("acceptances",),
    "engines": ("described", "described_releases", "engine", "fitted_engine", "releases", "stated_engine"),
    "fleets": ("fleet",),
    "cards": ("gpu_name",),
    "gpus": ("gpu",),
    "hub_files": ("online",),
    "metrics": ("located",),
    "models": ("all_models", "lost", "model", "tuned"),
    "lookup": ("resolve",),
    "owning": ("DEFAULT", "api_file", "apis", "ownership"),
    "rental": (
        "all_prices",
        "offers",
        "offers_by_gpu",
        "price_document",
        "price_file",
        "price_list",
        "prices",
        "terms",
        "write_prices",
    ),
    "manifests": ("manifest_text",),
    "handed": ("handed_over",),
    "saved": ("plan_path", "save_plan", "saved_plan"),
    "scores": ("quality_file", "quality_table"),
    "serving": ("calibration", "is_serving", "serving_profile"),
    "shelves": ("names", "shelf", "shipped"),
    "sweeps": ("study",),
    "workloads": ("all_workloads", "workload"),
}
_FILES = {name: file for file, offered in _OFFERS.items() for name in offered}


def __getattr__(name: str) -> object:
    if name not in _FILES:
        raise AttributeError(f"module 'kvplan.catalog' has no attribute {name!r}")
    return getattr(import_module(f"kvplan.catalog.{_FILES[name]}"), name)
