"""Money: what a replica costs per second, and what a query's share of it is."""
