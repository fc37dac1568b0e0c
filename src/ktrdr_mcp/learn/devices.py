"""Where networks are trained."""

from __future__ import annotations

import torch

from ktrdr_mcp.errors import InvalidRequest


def device_named(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises:
        InvalidRequest: a GPU was asked for and there is none.
    """
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise InvalidRequest(
            "This machine has no CUDA device.",
            hint="Use device auto or cpu.",
            field="config.device",
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and present) else "cpu")
