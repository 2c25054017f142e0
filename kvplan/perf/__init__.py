"""Time: what one forward pass does (operators), how fast a device does it (calibration), what a server feels (serving)."""
