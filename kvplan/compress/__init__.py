"""Techniques of the planner run on a real model: caches for transformers, measured for memory and for quality.

The only room with Hugging Face. Nothing here is imported by the planner; torch and transformers are loaded when a
function of this room is called, and a machine without them is told what to install.
"""
