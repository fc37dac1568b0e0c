"""Networks: how they are trained, measured and kept."""
