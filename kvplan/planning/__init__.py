"""Plans: how memory, time and money become an answer."""
