"""What a caller learns of an internal error."""

from __future__ import annotations

from ktrdr_mcp.errors import KtrdrError


def internal_error(what: str) -> KtrdrError:
    """A sentence that shows nothing of the inside of the error; the log has it.

    Args:
        what: what failed.
    """
    return KtrdrError(
        f"{what} failed because of an internal error.",
        hint="Call it once more; if it fails again, report it with the server's standard error.",
    )
