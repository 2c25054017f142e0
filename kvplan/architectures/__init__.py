"""Every architecture kvplan reads: model_type -> a function from Config to Body.

Adding one is one function in the file of its family (`families/`), registered by `@family` or, for what stands beside a
language model, by `@tower`. What families share stands here: parts (sizes, tensors, the frame), attention, recurrence,
feed_forward, decoders (two frames that most fill), encoders, towers and vision.
"""

from kvplan.architectures.registry import FAMILIES, TOWERS, family

__all__ = ["FAMILIES", "TOWERS", "family"]
