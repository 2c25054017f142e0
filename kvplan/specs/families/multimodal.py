"""A language model with a vision (or audio) tower: the text part is read by its own family, the tower is counted."""
TOWERS: dict[str, object] = {}
