"""Money: what a replica or a fleet costs, where each dollar goes, its energy, and what an API would charge instead."""
