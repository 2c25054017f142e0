"""Inputs of probes, cut from one long buffer in turn."""

from typing import Any

from kvplan.measuring.device.course import TooLarge


class BufferPool:
    """Cuts inputs from one long buffer in turn, so that a sample never finds its inputs in a cache."""

    def __init__(self, buffers: dict[str, Any]):
        self.buffers = buffers
        self.at = dict.fromkeys(buffers, 0)

    def cut(self, dtype: str, *shape: int) -> Any:
        """Return the next [shape] elements; TooLarge when the whole buffer is smaller."""
        size = 1
        for extent in shape:
            size *= extent
        buffer = self.buffers[dtype]
        if size > buffer.numel():
            raise TooLarge(f"{size:,} elements of {dtype} are more than the pool holds")
        if self.at[dtype] + size > buffer.numel():
            self.at[dtype] = 0
        begin = self.at[dtype]
        self.at[dtype] = begin + -(-size // 64) * 64
        return buffer[begin : begin + size].view(shape)
