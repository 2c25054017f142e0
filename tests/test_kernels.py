"""Every kernel against its slow twin, in Triton's interpreter."""

import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported and again at every decoration

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from kvplan.kernels.cases import CASES, Case  # noqa: E402
from kvplan.kernels.common import INTERPRETED  # noqa: E402

CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.skipif(not INTERPRETED, reason="triton was imported before TRITON_INTERPRET was set"),
    # the interpreter of triton 3.6 turns loop bounds into numbers the way numpy 2.4 forbids
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_equals_its_twin(case: Case) -> None:
    errors = case.errors(CPU)
    assert all(error <= case.tolerance for error in errors.values()), errors
