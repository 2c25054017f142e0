"""Replays of requests, step by step of the engine, in leaps over equal decode steps.

The functions that run for every event are plain Python on lists; numba compiles the same source (`compiled.py`).
"""
