"""Text for people (rich tables) and documents for scripts (JSON): the only place that words an answer."""
