"""What every reply has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Reply(BaseModel):
    """A response model; replies may gain fields, so readers must tolerate more."""

    model_config = ConfigDict(frozen=True)


class Success(Reply):
    """Every reply that is not an error."""

    success: Literal[True] = True
