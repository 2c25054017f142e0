"""Every architecture kvplan reads: model_type -> a function from Config to Body.

Adding one is one function in the file it belongs to:
dense (one feed-forward a layer), sparse (mixture of experts), latent (MLA), recurrent (Mamba, linear attention,
convolutions, mixed with attention or not), multimodal (a language model plus a vision tower), seq2seq
(encoder-decoder).
"""

from kvplan.architectures.registry import FAMILIES, TOWERS, family

__all__ = ["FAMILIES", "TOWERS", "family"]
