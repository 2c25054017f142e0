"""What a model, a GPU, an engine and a price are, and how they are read."""
