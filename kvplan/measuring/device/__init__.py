"""Measuring a device: what is timed, on a CPU or a GPU, in which order, and what the GPU says of itself."""
