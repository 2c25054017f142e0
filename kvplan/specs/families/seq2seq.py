"""Encoder-decoders: the decoder caches its own tokens, and the encoder's once per request."""
