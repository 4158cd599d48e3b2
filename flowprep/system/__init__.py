"""Files, processes, leases, caches, progress and units: nothing here depends on video."""
