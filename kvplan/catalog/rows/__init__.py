"""Rows of measurements, traces and results of benchmark tools."""
