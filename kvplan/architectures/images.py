"""How images become tokens: resized to a tile, cut into tiles, or as they come. Tile limits are the preprocessors'."""

from kvplan.architectures.config import Config
from kvplan.architectures.towers import Sight, pair
from kvplan.specs.model import Vision


def eye(outer: Config) -> Config:
    """Return the vision part of a config, under the type that the class gives it where the file states none."""
    return outer.nested("vision_config", model_type=f"{outer.model_type}_vision")


def tile(c: Config, side: int, patch: int) -> tuple[int, int]:
    """Return the (side, patch) of a tower's square input, and what they are where a file leaves them out. [pixel]"""
    stated = [pair(c, name)[0] if c.get(name, None) is not None else usual
              for name, usual in (("image_size", side), ("patch_size", patch))]  # fmt: skip
    return stated[0], stated[1]


def tiled(
    side: int, patch: int, *, merge: int = 1, tokens: int | None = None, tiles: int = 1, overview: bool = False
) -> Sight:
    """Return the rule of towers that read tiles of `side` pixels, unless the file says another size.

    `merge` patches on a side become a token, unless all of a tile become `tokens`.
    """

    def sees(outer: Config) -> Vision:
        across, step = tile(eye(outer), side, patch)
        return Vision(patch=step, side=across, merge=merge, fixed=tokens, tiles=tiles, overview=overview)

    return sees


def native(patch: int, *, frames: int = 1) -> Sight:
    """Return the rule of towers that read an image as it comes, spatial_merge_size patches on a side to a token."""

    def sees(outer: Config) -> Vision:
        c = eye(outer)
        merge = outer.size("spatial_merge_size", 2) if "spatial_merge_size" in outer.raw else None
        return Vision(
            patch=c.size("patch_size", patch),
            merge=merge or c.size("spatial_merge_size", 2),
            frames=c.size("temporal_patch_size", frames),
        )

    return sees
