"""Every class of errors."""

from __future__ import annotations

from ktrdr_mcp import errors
from ktrdr_mcp.errors import KtrdrError


def every_error_class() -> list[type[KtrdrError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return sorted(
        (kind for kind in kinds if issubclass(kind, KtrdrError)), key=lambda kind: kind.__name__
    )
