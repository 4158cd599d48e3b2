"""Where tasks run: processes of this machine, or a Dask cluster.

An executor only decides which process calls `extraction.task.run_task`. All state is on disk.
"""
