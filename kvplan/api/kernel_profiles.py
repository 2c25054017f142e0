"""Profiles of kernels by name or file, the shipped ones first."""

from collections.abc import Sequence

from kvplan import catalog
from kvplan.catalog.rows.tables import kernel_document, kernel_documents
from kvplan.errors import SpecError
from kvplan.perf.kernel_profile import KernelProfile, Predictor, read_profile


def known(words: Sequence[str]) -> list[KernelProfile]:
    """Return the shipped profiles, then those asked for, which win."""
    if servers := [word for word in words if catalog.is_serving(word)]:
        raise SpecError(f"profile {servers[0]}: is a profile of servers; rows of kernels need one of kernels")
    profiles = [*kernel_documents(), *(kernel_document(word) for word in words)]
    return [read_profile(raw, source, location) for raw, source, location in profiles]


def predictor(words: Sequence[str]) -> Predictor:
    """Return what predicts kernels of the catalogue's GPUs under these profiles."""
    return Predictor(known(words), catalog.gpu)
