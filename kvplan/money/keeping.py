"""What keeping prefixes beside the GPUs costs: the bytes of a tier, by the month."""

from kvplan.kv.tiers import RESERVE, Tier
from kvplan.specs.line import Line
from kvplan.units import MONTH, show_percent

GB = 1e9


def keeping(tier: Tier, gpus: float) -> Line:
    """Return the tier beside so many GPUs as a line of a bill: its bytes at their price by the month. [USD/s]"""
    month = tier.room * gpus / GB * tier.usd
    room = f"{tier.room / GB:,.0f} GB a GPU for prefixes"
    if tier.stated:
        basis = f"{room}, {show_percent(1 - RESERVE)} of the host memory that the GPU's price states and includes"
    else:
        basis = (
            f"{room} ({tier.source.kind}), at ${tier.usd:.3g} per GB and month ({tier.source.kind}); a rent may "
            "include it"
        )
    return Line(name=tier.title, amount=month / MONTH, basis=basis)
