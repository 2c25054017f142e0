"""`kvplan compress` in words, a table and JSON: what the latents of each layer hold."""

from kvplan.api.compress import LatentsWritten, LayerHeld
from kvplan.report.blocks import Column, Json, Page, Text, records, schema, table
from kvplan.units import show_bytes, show_count, show_percent


def percent(share: float) -> str:
    """Return a share with one digit."""
    return show_percent(share, 1)


LAYER = (
    Column[LayerHeld](key="layer", heading="layer", value=lambda x: x.layer, align="left"),
    Column[LayerHeld](key="groups", heading="latents", value=lambda x: x.groups),
    Column[LayerHeld](key="key_rank", heading="of keys", value=lambda x: x.key_rank, show=lambda n: f"{n} elements"),
    Column[LayerHeld](key="keys_held", heading="variance held", value=lambda x: x.keys, show=percent),
    Column[LayerHeld](
        key="value_rank", heading="of values", value=lambda x: x.value_rank, show=lambda n: f"{n} elements"
    ),
    Column[LayerHeld](key="values_held", heading="variance held", value=lambda x: x.values, show=percent),
)


def page(c: LatentsWritten) -> Page:
    """Return the report: where the latents are, and a row a layer."""
    worst = min(min(layer.keys, layer.values) for layer in c.layers)
    return Page.of(
        Text(
            f"Latents of {c.model.title} for {c.technique} were learned from {c.learned_from}: "
            f"{show_count(len(c.layers), 'layer')}, {show_bytes(c.bytes)} in {c.output}.",
            "answer",
        ),
        Text(f"They are as narrow as holds {percent(c.energy)} in every layer.") if c.energy is not None else None,
        Text(f"They were healed by {show_count(c.healed, 'step')} of distillation.") if c.healed else None,
        Text(f"The layer that loses most keeps {percent(worst)} of what varies in its keys or values."),
        table("Latents by layer", LAYER, c.layers),
        Text(f"Keys are learned before their rotation. kvplan evaluate can use what is in {folder(c.output)}."),
    )


def folder(file: str) -> str:
    """Return the folder of a file."""
    return file.rpartition("/")[0] or "."


def document(c: LatentsWritten) -> Json:
    """Return it as one JSON document."""
    return schema(
        "compress", model=c.model.name, technique=c.technique, learned_from=c.learned_from, energy=c.energy,
        healed=c.healed, output=c.output, bytes=c.bytes, layers=records(LAYER, c.layers),
    )  # fmt: skip
