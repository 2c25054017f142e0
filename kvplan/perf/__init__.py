"""Time: what one forward pass does, how fast a device does it, what a server feels.

In this order: matrices, operators, step_time, serving, prompts, mixture, prompt_queue, queueing, crowding, token_times.
kernel_time and kernel_profile time single kernels.
"""
