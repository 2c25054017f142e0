"""The only room that reads and writes files: `catalog.model("llama3-70b")`, `catalog.gpu("./mine.yaml")`, ...

Names, aliases and paths are interchangeable everywhere. Each name below is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvplan.catalog.checkpoints.hub_files import online as online
    from kvplan.catalog.checkpoints.models import all_models as all_models
    from kvplan.catalog.checkpoints.models import lost as lost
    from kvplan.catalog.checkpoints.models import model as model
    from kvplan.catalog.checkpoints.models import tuned as tuned
    from kvplan.catalog.claim_files import claim_list as claim_list
    from kvplan.catalog.costs.owning import DEFAULT as DEFAULT
    from kvplan.catalog.costs.owning import api_file as api_file
    from kvplan.catalog.costs.owning import apis as apis
    from kvplan.catalog.costs.owning import ownership as ownership
    from kvplan.catalog.costs.rental import all_prices as all_prices
    from kvplan.catalog.costs.rental import offers as offers
    from kvplan.catalog.costs.rental import offers_by_gpu as offers_by_gpu
    from kvplan.catalog.costs.rental import price_document as price_document
    from kvplan.catalog.costs.rental import price_file as price_file
    from kvplan.catalog.costs.rental import price_list as price_list
    from kvplan.catalog.costs.rental import prices as prices
    from kvplan.catalog.costs.rental import terms as terms
    from kvplan.catalog.costs.rental import write_prices as write_prices
    from kvplan.catalog.fleets import fleet as fleet
    from kvplan.catalog.hardware.cards import gpu_name as gpu_name
    from kvplan.catalog.hardware.gpus import gpu as gpu
    from kvplan.catalog.lookup import resolve as resolve
    from kvplan.catalog.plans.handed import handed_over as handed_over
    from kvplan.catalog.plans.manifests import manifest_text as manifest_text
    from kvplan.catalog.plans.saved import plan_path as plan_path
    from kvplan.catalog.plans.saved import save_plan as save_plan
    from kvplan.catalog.plans.saved import saved_plan as saved_plan
    from kvplan.catalog.scores import quality_file as quality_file
    from kvplan.catalog.scores import quality_table as quality_table
    from kvplan.catalog.servers.drafts import acceptances as acceptances
    from kvplan.catalog.servers.engines import described as described
    from kvplan.catalog.servers.engines import described_releases as described_releases
    from kvplan.catalog.servers.engines import engine as engine
    from kvplan.catalog.servers.engines import fitted_engine as fitted_engine
    from kvplan.catalog.servers.engines import releases as releases
    from kvplan.catalog.servers.engines import stated_engine as stated_engine
    from kvplan.catalog.servers.metrics import located as located
    from kvplan.catalog.servers.serving import calibration as calibration
    from kvplan.catalog.servers.serving import is_serving as is_serving
    from kvplan.catalog.servers.serving import serving_profile as serving_profile
    from kvplan.catalog.shelves import names as names
    from kvplan.catalog.shelves import shelf as shelf
    from kvplan.catalog.shelves import shipped as shipped
    from kvplan.catalog.studies.sweeps import study as study
    from kvplan.catalog.workloads import all_workloads as all_workloads
    from kvplan.catalog.workloads import workload as workload

#: file -> what it offers
_OFFERS = {
    "claim_files": ("claim_list",),
    "servers.drafts": ("acceptances",),
    "servers.engines": ("described", "described_releases", "engine", "fitted_engine", "releases", "stated_engine"),
    "fleets": ("fleet",),
    "hardware.cards": ("gpu_name",),
    "hardware.gpus": ("gpu",),
    "checkpoints.hub_files": ("online",),
    "servers.metrics": ("located",),
    "checkpoints.models": ("all_models", "lost", "model", "tuned"),
    "lookup": ("resolve",),
    "costs.owning": ("DEFAULT", "api_file", "apis", "ownership"),
    "costs.rental": (
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
    "plans.manifests": ("manifest_text",),
    "plans.handed": ("handed_over",),
    "plans.saved": ("plan_path", "save_plan", "saved_plan"),
    "scores": ("quality_file", "quality_table"),
    "servers.serving": ("calibration", "is_serving", "serving_profile"),
    "shelves": ("names", "shelf", "shipped"),
    "studies.sweeps": ("study",),
    "workloads": ("all_workloads", "workload"),
}
_FILES = {name: file for file, offered in _OFFERS.items() for name in offered}


def __getattr__(name: str) -> object:
    if name not in _FILES:
        raise AttributeError(f"module 'kvplan.catalog' has no attribute {name!r}")
    return getattr(import_module(f"kvplan.catalog.{_FILES[name]}"), name)
