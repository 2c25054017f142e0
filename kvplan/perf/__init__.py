"""Time: what one forward pass does, how fast a device does it, what a server feels.

In this order: operators, calibration, serving.
"""
