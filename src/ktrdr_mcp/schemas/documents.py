"""What HTTP adds to the tools: health, errors, and the documents that MCP has as resources."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ktrdr_mcp.schemas.config import Strict
from ktrdr_mcp.schemas.requests import StrategyName, Text
from ktrdr_mcp.schemas.responses import Reply, Success


class Empty(Strict):
    """A request without arguments."""


class ReadStrategy(Strict):
    """Read a strategy file."""

    name: StrategyName


class CompleteName(Strict):
    """Find the known names that begin with a text."""

    kind: Literal["task_id", "model_name", "symbol", "timeframe", "strategy"]
    prefix: Text = ""


class Health(Success):
    """The laboratory answers."""

    status: Literal["ok"] = "ok"
    version: str
    contract_version: str


class Stopping(Success):
    """The laboratory stores what is under way, and ends."""

    status: Literal["stopping"] = "stopping"


class TrainingHistory(Success):
    """A task's whole story."""

    task_id: str
    history: dict[str, Any] = Field(description="specification, every epoch, metrics")


class ModelCard(Success):
    """What a model's newest version is, was trained on and measured."""

    model_name: str
    card: dict[str, Any]


class EquityCurve(Success):
    """The growth of one unit under a model's signals."""

    model_name: str
    equity: dict[str, Any] = Field(description="points of in_sample and out_of_sample")


class StrategyNames(Success):
    """The strategies that there are."""

    strategies: list[str]


class StrategyText(Success):
    """A strategy file as it stands."""

    name: str
    text: str = Field(description="YAML")


class Names(Success):
    """The known names that begin with the text."""

    kind: str
    names: list[str]


class ErrorDetail(Reply):
    """What went wrong, for programs and for people."""

    code: str
    message: str
    hint: str = Field(description="what to do next")
    field: str | None = Field(description="dotted path of the request field at fault")


class ErrorReply(Reply):
    """The one error shape of every route."""

    success: Literal[False] = False
    detail: str
    error: ErrorDetail
