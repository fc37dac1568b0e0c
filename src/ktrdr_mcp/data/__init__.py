"""Bars: where they come from, and the promise that they do not contradict themselves."""
