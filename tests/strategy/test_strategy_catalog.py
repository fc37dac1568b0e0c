"""Where strategies are found."""

from __future__ import annotations

import os
from importlib import resources

import pytest

from ktrdr_mcp.errors import InvalidName, InvalidStrategy, StrategyNotFound
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.requests import BUILT_IN_STRATEGIES
from ktrdr_mcp.strategy.catalog import DEFAULT_STRATEGY, StrategyCatalog, stamp

OWN = "indicators: [{name: rsi}]\nfuzzy_sets: {rsi: crisp}\n"


@pytest.fixture
def catalog(tmp_path):
    return StrategyCatalog(Workspace(tmp_path))


def write(catalog, name, data):
    folder = catalog.workspace.strategies
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def test_an_empty_workspace_has_the_programs_own_strategies(catalog):
    names = catalog.names()
    assert DEFAULT_STRATEGY in names
    assert names == sorted(BUILT_IN_STRATEGIES)
    assert [catalog.read(name).name for name in names] == names


def test_a_further_file_beside_the_programs_own_is_none_of_them(catalog, tmp_path, monkeypatch):
    beside = StrategyCatalog(Workspace(tmp_path / "repository"))  # which can be a workspace too
    beside.workspace.strategies.mkdir(parents=True)
    for name in (DEFAULT_STRATEGY, "further"):
        write(beside, f"{name}.yaml", OWN)
    monkeypatch.setattr(resources, "files", lambda _: beside.workspace.root)
    assert "further" in beside.names()
    assert "further" not in catalog.names()
    assert catalog.read(DEFAULT_STRATEGY).name == DEFAULT_STRATEGY
    with pytest.raises(StrategyNotFound):
        catalog.read("further")


def test_built_in_strategies_say_what_they_are_for_and_ignore_nothing(catalog):
    for name in catalog.names():
        strategy = catalog.read(name)
        assert len(strategy.description) > 40
        assert strategy.ignored == ()


def test_a_file_of_the_workspace_wins(catalog):
    write(catalog, "default.yaml", OWN)
    assert catalog.read("default").fuzzy_inputs[0].sets == "crisp"
    assert catalog.text("default") == OWN
    assert catalog.names().count("default") == 1


def test_only_well_formed_names_are_listed(catalog):
    before = catalog.names()
    for name in ("Mine.v2.yaml", "my strategy.yaml", "notes.txt", ".hidden.yaml", "mine.yml"):
        write(catalog, name, OWN)
    (catalog.workspace.strategies / "folder.yaml").mkdir()
    write(catalog, "mine.yaml", OWN)
    assert catalog.names() == sorted([*before, "mine", "Mine.v2"])


def test_names_that_cannot_be_used_are_listed_with_the_rename_that_helps(catalog):
    for name in ("my strategy.yaml", "mine.yml", "Default.yaml", "Idea.yaml", "idea.yaml"):
        write(catalog, name, OWN)
    assert {
        name: remedy.rpartition("rename it to ")[2] for name, remedy in catalog.find_misnamed()
    } == {
        "Default.yaml": "Default_2.yaml.",
        "idea.yaml": "idea_2.yaml.",
        "mine.yml": "mine.yaml.",
        "my strategy.yaml": "my_strategy.yaml.",
    }
    assert "Idea" in catalog.names()
    assert "idea" not in catalog.names()


def test_upper_and_lower_case_do_not_matter_to_a_caller(catalog):
    write(catalog, "Range.Squeeze.yaml", OWN)
    assert catalog.find_name("range.squeeze") == "Range.Squeeze"
    assert catalog.read("RANGE.SQUEEZE").name == "Range.Squeeze"
    assert catalog.find_name("Default") == "default"


def test_the_copy_of_a_saved_model_is_no_strategy_until_it_is_edited(catalog):
    catalog.workspace.strategies.mkdir()
    path = catalog.workspace.strategies / "model.yaml"
    path.write_bytes(stamp(OWN, "model", 1))
    assert "model" not in catalog.names()
    path.write_bytes(stamp(OWN, "model", 1) + b"# mine now\n")
    assert "model" in catalog.names()


def test_an_absent_strategy_is_named_with_those_there_are(catalog):
    with pytest.raises(StrategyNotFound, match="Did you mean 'mean_reversion'") as caught:
        catalog.read("mean_reversal")
    assert "trend_following" in caught.value.hint


@pytest.mark.parametrize("name", ["", "../default", ".default", "a b", "a/b", "a\n", None])
def test_a_malformed_name_never_becomes_a_path(catalog, name):
    with pytest.raises(InvalidName):
        catalog.text(name)


def test_a_byte_order_mark_is_no_part_of_the_text(catalog):
    write(catalog, "mine.yaml", b"\xef\xbb\xbf" + OWN.encode())
    assert catalog.read("mine").name == "mine"


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\xff\xfe\x00", "not UTF-8"), (b"#" * (MAX_STRATEGY_BYTES + 1), "larger than")],
)
def test_a_file_that_cannot_be_text_is_refused(catalog, data, message):
    write(catalog, "mine.yaml", data)
    with pytest.raises(InvalidStrategy, match=message):
        catalog.read("mine")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_a_strategy(catalog):
    catalog.workspace.strategies.mkdir()
    os.mkfifo(catalog.workspace.strategies / "pipe.yaml")
    assert "pipe" not in catalog.names()
    with pytest.raises(StrategyNotFound):
        catalog.read("pipe")
