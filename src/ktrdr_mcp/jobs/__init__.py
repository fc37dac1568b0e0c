"""Runs stored tasks in worker threads, one event loop in charge; knows nothing of research."""
