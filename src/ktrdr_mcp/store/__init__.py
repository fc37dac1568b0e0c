"""What survives the process: tasks and the registry of models, in one SQLite file."""
