"""Requests, responses and the laboratory's protocol; no other place defines a field."""

from ktrdr_mcp.schemas.config import EarlyStopping, TrainingConfig
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol

CONTRACT_VERSION = "1.0"

__all__ = [
    "CONTRACT_VERSION",
    "EarlyStopping",
    "ServiceProtocol",
    "OnProgress",
    "TrainingConfig",
    "parse",
]
