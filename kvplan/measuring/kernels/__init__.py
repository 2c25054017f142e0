"""Measured kernels: reading their rows, fitting their coefficients, and holding rows out."""
