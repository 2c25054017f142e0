"""Rents of GPUs, what owning them takes, and prices of APIs."""
