"""Measurements: rows of them, and fitting kernels to rows."""
