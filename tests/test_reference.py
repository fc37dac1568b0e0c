"""The reference has everything that the contract has, and every page finds its place."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import ktrdr_mcp
from ktrdr_mcp.api.http.openapi import document
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.errors import kinds_by_code
from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.features.talib_functions import function_names
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.strategy.parsing import MODEL_TRAINING, PLACES, SECTIONS
from tools.docs import INCLUDED, NAVIGATION, navigation, pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "ktrdr_mcp"
PAGES = pages()


def first_cells(page: str) -> set[str]:
    """What stands as code in the first column of a page's tables."""
    return set(re.findall(r"^\| \[?`([^`]+)`", PAGES[page], re.MULTILINE))


def test_every_word_of_the_contract_stands_in_the_reference() -> None:
    assert {one.name for one in OPERATIONS.values() if one.tool} <= first_cells(
        "reference/tools.md"
    )
    routes = set(re.findall(r"^\| (?:GET|POST) \| `([^`]+)`", PAGES["reference/http.md"], re.M))
    assert {one.path for one in OPERATIONS.values()} == routes
    assert routes <= set(document(OPERATIONS.values())["paths"])
    assert set(TrainingConfig.model_fields) <= first_cells("reference/configuration.md")
    assert {"early_stopping.patience", "sweep.vary", "walk_forward.folds"} <= first_cells(
        "reference/configuration.md"
    )
    keys = first_cells("reference/strategy.md")
    assert {
        *SECTIONS,
        *PLACES.values(),
        *(f"model.training.{name}" for name in MODEL_TRAINING),
    } <= keys
    types = first_cells("reference/indicators.md")
    assert types == {*INDICATORS, *(f"talib.{name}" for name in function_names())}
    assert first_cells("reference/errors.md") == set(kinds_by_code())


def test_every_page_stands_in_the_navigation_once_and_a_new_one_under_how_to() -> None:
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | set(PAGES)
    listed = [name for section in navigation(there) for names in section.values() for name in names]
    assert sorted(listed) == sorted(there)
    by_title = {
        title: names for one in navigation(there | {"new.md"}) for title, names in one.items()
    }
    assert "new.md" in by_title["How to"]
    assert set(INCLUDED) <= set(NAVIGATION["Project"])


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_cell_of_a_table_is_empty_where_its_row_begins(page: str) -> None:
    lines = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL).splitlines()
    rows = [line.strip() for line in lines if line.strip().startswith("|")]
    assert all(row.endswith("|") and not row.startswith("|  |") for row in rows)


MODULES = [one.name for one in pkgutil.iter_modules(ktrdr_mcp.__path__) if one.name[0] != "_"]


def test_the_picture_of_the_layers_has_all_of_them() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    assert [name for name in MODULES if not re.search(rf"\b{name}\b", picture)] == []


@pytest.mark.parametrize("file", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_modules_and_files_that_are_named_are_there(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    packages = "|".join(name for name in MODULES if (SOURCE / name).is_dir())
    modules = re.findall(rf"(?<![\w/.-])(?:{packages})\.\w+", text)
    paths = re.findall(r"`(\w[\w/]*/(?:\w*\.\w+)?)`", text)
    assert modules or paths
    for name in modules:
        importlib.import_module(f"ktrdr_mcp.{name}")
    assert [one for one in paths if not ((ROOT / one).exists() or (SOURCE / one).exists())] == []
