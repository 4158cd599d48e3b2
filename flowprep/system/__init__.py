"""What the packages share that knows nothing of video: files, processes, leases, caches, units."""
