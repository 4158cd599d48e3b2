"""TV-L1 on an NVIDIA GPU."""
