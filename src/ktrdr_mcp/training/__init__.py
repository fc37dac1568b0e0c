"""The research method, from bars to a published model."""
