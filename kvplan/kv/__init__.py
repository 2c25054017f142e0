"""KV memory: the five-factor layout, the techniques that act on it, and how a paged engine reserves it."""
