"""What was fitted of which GPU, engine and kernel; finding what stands nearest to a shape, and predicting it."""

from kvplan.perf.kernel_profile.kinds import KINDS, KernelCall, Kind, element_bits, operand_bits, part_of, product_bits
from kvplan.perf.kernel_profile.predict import Prediction, Predictor, scale_of
from kvplan.perf.kernel_profile.profile import Fitted, Kernel, KernelProfile, read_profile

__all__ = [
    "KINDS", "Fitted", "Kernel", "KernelCall", "KernelProfile", "Kind", "Prediction", "Predictor", "element_bits",
    "operand_bits", "part_of", "product_bits", "read_profile", "scale_of",
]  # fmt: skip
