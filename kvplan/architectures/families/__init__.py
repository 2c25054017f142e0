"""One file a family: the readers of its language models, and the towers beside them.

A file added here is known by that: `registry` imports it when a config needs it.
"""
