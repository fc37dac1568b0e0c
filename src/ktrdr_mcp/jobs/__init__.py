"""Runs stored tasks on an executor, one event loop in charge; knows nothing of research."""
