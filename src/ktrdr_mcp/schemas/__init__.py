"""Requests, replies and the protocol of the service; fields are defined here alone."""

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
