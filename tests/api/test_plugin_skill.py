"""The plugin's skill speaks of what there is, and is short enough to be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.errors import kinds_by_code
from ktrdr_mcp.schemas.config import TrainingConfig

SKILLS = sorted((Path(__file__).parents[2] / "plugin" / "skills").glob("*/SKILL.md"))
MOST_WORDS = 600
# of the loop that it teaches
TOOLS = {
    "research_log",
    "get_market_data_summary",
    "save_strategy",
    "start_training",
    "get_training_status",
    "get_model_performance",
    "explain_model",
    "backtest_model",
    "add_research_note",
    "save_trained_model",
    "test_model_prediction",
}


def known_words() -> set[str]:
    """Every name of the contract: tools, fields, words that a field may be, error codes."""
    models = [model for each in OPERATIONS.values() for model in (each.request, each.reply)]
    schemas = json.dumps([model.model_json_schema() for model in (*models, TrainingConfig)])
    return {*re.findall(r"\w+", schemas), *OPERATIONS, *kinds_by_code()}


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_a_skill_is_short_and_names_only_what_there_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    quoted = " ".join(re.findall(r"`([^`]+)`", text))
    named = set(re.findall(r"[a-z_]+", quoted))
    assert len(text.split()) < MOST_WORDS
    assert named - known_words() - {"true", "false"} == set()
    assert named >= TOOLS
