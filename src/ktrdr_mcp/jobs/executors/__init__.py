"""Where tasks run: one module for each kind of executor, all behind `base.Executor`."""
