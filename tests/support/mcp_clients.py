"""Clients of both protocol eras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcp.client import Client

MODES: Final = {"2026-07-28": "auto", "2025-11-25": "legacy"}

Connect = Callable[[], Client]
