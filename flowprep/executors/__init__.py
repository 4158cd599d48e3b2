"""Where tasks run. An executor only decides which process calls `run_task`; all state lies on disk."""
