"""Labels: what a network learns to foresee. Importing the package registers every labeler."""

from ktrdr_mcp.labels import labelers

__all__ = ["labelers"]
