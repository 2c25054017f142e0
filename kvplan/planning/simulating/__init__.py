"""Simulations of a fleet: what is asked, the server that runs, replicas that come and go, and what came of it."""
