"""The table of transitions agrees with the diagram and the database."""

from __future__ import annotations

import re
from importlib import resources

from ktrdr_mcp.jobs import model
from ktrdr_mcp.jobs.model import TERMINAL, TRANSITIONS, Status, sources_of


def test_what_ends_a_task_is_never_left() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELLED} == TERMINAL


def test_each_status_is_reached_only_from_where_the_table_says() -> None:
    assert sources_of(Status.PENDING) == {"training"}
    assert sources_of(Status.TRAINING) == {"pending"}
    assert sources_of(Status.CANCELLED) == {"pending", "training"}
    assert sources_of(Status.COMPLETED) == sources_of(Status.FAILED) == {"training"}


def test_every_edge_has_a_letter_in_the_diagram() -> None:
    assert model.__doc__ is not None
    letters = [edge.letter for edge in TRANSITIONS]
    assert sorted(re.findall(r"-([a-z])-", model.__doc__)) == letters
    assert all(edge.cause for edge in TRANSITIONS)


def test_the_database_knows_the_same_statuses() -> None:
    schema = resources.files("ktrdr_mcp.store").joinpath("schema.sql").read_text(encoding="utf-8")
    match = re.search(r"CHECK \(status IN \((.*?)\)\)", schema)
    assert match is not None
    assert set(re.findall(r"'(\w+)'", match[1])) == set(Status)
