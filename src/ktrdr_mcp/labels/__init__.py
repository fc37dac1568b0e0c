"""Labels: what a network learns to foresee. Importing the package registers every labeler."""

from ktrdr_mcp.labels import forward_return, triple_barrier, zigzag

__all__ = ["forward_return", "triple_barrier", "zigzag"]
