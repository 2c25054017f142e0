"""What converting a model to another cache costs: training on some tokens, spread over the months it then serves."""

from kvplan.money.gpu_cost import GpuCost
from kvplan.specs.line import Line
from kvplan.units import HOUR, MONTH, show_usd

#: the line of a bill
CONVERSION = "conversion"
#: operations of training for a parameter and a token (Kaplan et al., arXiv 2001.08361, section 2.1)
PER_TOKEN = 6.0
#: share of the 16-bit rate that training reaches: 38 to 43 % for Llama 3 405B (arXiv 2407.21783, table 4)
UTILIZATION = 0.4
#: months that a converted model serves before the next one replaces it: an assumption [month]
MONTHS = 12.0


def gpu_seconds(parameters: float, tokens: float, rate: float) -> float:
    """Return the GPU time of training a model's working parameters on some tokens at a GPU's 16-bit rate. [s]"""
    return PER_TOKEN * parameters * tokens / (UTILIZATION * rate)


def conversion(parameters: float, tokens: float, rate: float, cost: GpuCost) -> Line:
    """Return a conversion as a line of a bill: its GPU time at the price of a GPU at work, by the month. [USD/s]"""
    seconds = gpu_seconds(parameters, tokens, rate)
    usd = seconds * cost.rate("")
    basis = (
        f"{show_usd(usd)} once: {tokens / 1e9:g} billion tokens x {PER_TOKEN:g} x {parameters / 1e9:.3g} billion "
        f"parameters are {seconds / HOUR:,.0f} GPU-hours at {UTILIZATION:.0%} of the 16-bit rate; over "
        f"{MONTHS:g} months"
    )
    return Line(name=CONVERSION, amount=usd / (MONTHS * MONTH), basis=basis)
