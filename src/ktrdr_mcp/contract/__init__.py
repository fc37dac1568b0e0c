"""Requests, responses and the laboratory's protocol; no other place defines a field."""

from ktrdr_mcp.contract.config import EarlyStopping, TrainingConfig
from ktrdr_mcp.contract.lab import Lab, OnProgress
from ktrdr_mcp.contract.parsing import parse

CONTRACT_VERSION = "1.0"

__all__ = ["CONTRACT_VERSION", "EarlyStopping", "Lab", "OnProgress", "TrainingConfig", "parse"]
