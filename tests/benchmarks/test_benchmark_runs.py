"""Every part of the benchmark runs in its short form and yields its tables, whatever they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TITLES = (
    "One network against its peers",
    "K networks at once",
    "The floor",
    "Features and labels",
    "Estimated duration",
    "Start to completed",
    "Predictions",
    "Memory",
    "Bars",
    "On CUDA",
    "Targets",
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lines of each table, by its title."""
    written = tmp_path_factory.mktemp("benchmark") / "new" / "tables.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--output", str(written)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = written.read_text(encoding="utf-8")
    assert text.strip() == done.stdout.strip()
    sections = [part.partition("\n") for part in text.split("### ")[1:]]
    return {
        title: [line for line in body.splitlines() if line.startswith("|")]
        for title, _, body in sections
    }


@pytest.mark.parametrize("title", TITLES)
def test_a_part_yields_a_table_with_a_figure_in_every_row(tables, title) -> None:
    lines = next(lines for each, lines in tables.items() if each.startswith(title))
    header, rule, *rows = [line.count("|") for line in lines]
    assert rows
    assert {header, rule} | set(rows) == {header}


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "speed"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert "speed" in done.stderr
    assert "trainer, networks" in done.stderr
