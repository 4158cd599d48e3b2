"""TV-L1 on the processor, compiled by numba."""
