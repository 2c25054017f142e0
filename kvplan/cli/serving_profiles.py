"""What `--profile FILE` of the planning commands takes: a profile of servers, or of kernels (`kvplan profile`)."""

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from kvplan.errors import SpecError
from kvplan.specs import catalog
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import ServingProfile

if TYPE_CHECKING:
    from kvplan.money.draw import Draw
    from kvplan.specs.money import Ownership


def calibrated(gpu: Gpu, about: ModelSpec, profile: str, engine: str = "vllm") -> Calibration:
    """Return what a server of this GPU and engine reaches under the profile asked for."""
    if catalog.is_serving(profile):
        return catalog.calibration(gpu, engine, about, profile)
    servers, name, measured = with_kernels_of(profile)
    found = servers.calibrate(gpu, engine, (about.name, about.longer))
    if gpu.name not in measured:
        return found
    return replace(found, doubt=f"{found.doubt}; its matrix products as {name} measured them")


def draw_of(gpu: Gpu, assumed: "Ownership", profile: str) -> "Draw | None":
    """Return a GPU's power: measured where the profile asked for did, else shares of the datasheet's; None unknown."""
    from kvplan.money.draw import measured_draw, rated_draw

    if not catalog.is_serving(profile):
        from kvplan.specs.catalog_tables import kernel_document

        raw, source, where = kernel_document(profile)
        if raw.get("energy") and gpu.name in raw.get("kernels", {}):
            return measured_draw(raw["energy"], source, where)
    return rated_draw(gpu, assumed)


@cache
def with_kernels_of(profile: str) -> tuple[ServingProfile, str, tuple[str, ...]]:
    """Return the shipped profile of servers with the products of a profile of kernels, its name, and its GPUs."""
    from kvplan.cli.kernel_rows import known
    from kvplan.measuring.kernel_shares import measured_here
    from kvplan.perf.kernel_profile import Predictor, read_profile
    from kvplan.specs.catalog_tables import kernel_document

    raw, source, where = kernel_document(profile)
    if not isinstance(raw.get("kernels"), dict):
        raise SpecError(f"{where}: holds neither servers nor kernels of a GPU; see kvplan calibrate and kvplan profile")
    mine = read_profile(raw, source, where)
    gpus = tuple(name for name, engines in mine.kernels.items() if any("gemm" in kinds for kinds in engines.values()))
    if not gpus:
        raise SpecError(f"{where}: measured no matrix products (gemm), which the times of servers rest on")
    servers = catalog.serving_profile()
    published = known(())
    shipped, own = Predictor(published, catalog.gpu), Predictor([mine], catalog.gpu)
    served = {gpu for gpu, _ in servers.measured}
    references = [catalog.gpu(name) for found in published for name in found.kernels if name in served]
    for name in gpus:
        servers = measured_here(servers, own, shipped, catalog.gpu(name), references)
    return servers, mine.name, gpus
