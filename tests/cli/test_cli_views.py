"""How it looks: narrow terminals, no colour, pipes, and texts that others wrote."""

from __future__ import annotations

import asyncio
import io
import re

import pytest
from rich.console import Console

from ktrdr_mcp.cli import output, screens
from ktrdr_mcp.schemas import responses

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def terminal(width: int, **options: object) -> Console:
    """A terminal that remembers what it showed."""
    return output.PipeConsole(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
        **options,
    )


def seen(console: Console) -> str:
    """What a terminal showed, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


def status(state: str = "training", **more: object) -> responses.TrainingStatus:
    raw = {
        "task_id": UUID,
        "status": state,
        "progress": 12,
        "current_epoch": 12,
        "total_epochs": 100,
        "symbol": "AAPL",
        "timeframe": "1h",
        "started_at": "2026-08-14T20:30:00Z",
        "estimated_completion": "2026-08-14T20:30:00Z",
        "current_metrics": {
            "train_loss": 1.0123,
            "val_loss": 0.98,
            "train_accuracy": 0.49,
            "val_accuracy": 0.41,
        },
        "error": None,
        "error_code": None,
    }
    return responses.TrainingStatus.model_validate({**raw, **more})


def test_the_live_display_shows_epoch_losses_accuracies_and_time_left_in_80_columns() -> None:
    display = screens.Display("")
    display._status = status()
    console = terminal(80)
    console.print(display.render())
    text = seen(console)
    for part in ("epoch 12 of 100", "about 0 s left", "1.0123", "0.9800", "0.4900", "0.4100"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_alarm_stands_in_the_live_display_in_the_log_and_in_a_status(monkeypatch) -> None:
    alarmed = status(alarm="flat: raise learning_rate")
    console = terminal(80)
    display = screens.Display("")
    display._status = alarmed
    console.print(display.render())
    screens.status(console, alarmed)
    monkeypatch.setattr(screens, "LINE_INTERVAL_S", 0.0)
    asyncio.run(screens.Lines(console)(alarmed))
    assert seen(console).count("flat: raise learning_rate") == 3


def test_the_live_display_of_a_waiting_task_says_what_it_waits_for() -> None:
    display = screens.Display("Task x")
    display._status = status("pending", queue_position=3)
    console = terminal(80)
    console.print(display.render())
    assert "tasks ahead: 3" in seen(console)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3_700, "1 h 01 min")]
)
def test_durations_are_read_easily(seconds, text) -> None:
    assert screens.duration(seconds) == text


def test_optional_columns_give_way_and_names_stay_whole() -> None:
    columns = (
        output.Column("task"),
        output.Column("status"),
        output.Column("strategy", optional=True),
        output.Column("created", optional=True),
    )
    row = (UUID, "completed", "volatility_breakout", "2026-08-14T20:30:00Z")
    wide, narrow = terminal(120), terminal(60)
    output.listing(wide, columns, [row])
    output.listing(narrow, columns, [row])
    assert "2026-08-14 20:30" in seen(wide)
    assert "created" not in seen(narrow)
    assert "strategy" not in seen(narrow)
    assert UUID in seen(narrow)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (12_345, "12,345"),
        (0.123456, "0.1235"),
        (0.00001, "1e-05"),
        (0.0, "0.0000"),
        ({"buy": 0.5, "sell": 0.5}, "buy 0.5000, sell 0.5000"),
        (["a", "b"], "a, b"),
        ("2026-08-14T20:30:00Z", "2026-08-14 20:30"),
        ("2026-08-14T20:30:05Z", "2026-08-14 20:30:05"),
        ("\x1b[2Jevil\u202e", r"\x1b[2Jevil\u202e"),
    ],
)
def test_values_are_shown_for_people(value, text) -> None:
    assert output.readable(value) == text


def test_a_failed_status_shows_its_error() -> None:
    console = terminal(80)
    screens.status(console, status("failed", error="The loss [red]left[/] the numbers."))
    assert "The loss [red]left[/] the numbers." in seen(console)


def test_markup_in_a_description_is_text(shop, model) -> None:
    assert "made [bold]by hand[/]" in shop.run("models").stdout


@pytest.mark.parametrize(
    "line",
    [
        ("tasks",),
        ("models",),
        ("models", "show", "first"),
        ("models", "load", "first"),
        ("predict", "first"),
        ("data",),
        ("strategies",),
        ("strategies", "show", "default"),
    ],
    ids=" ".join,
)
def test_piped_output_is_plain_text(shop, model, line) -> None:
    result = shop.run(*line)
    assert result.exit_code == 0, result.output
    assert not CONTROL.search(result.stdout)


@pytest.mark.parametrize("line", [("tasks",), ("data",)])
def test_no_color_is_respected_on_a_terminal(shop, line) -> None:
    coloured = shop.run(*line, FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = shop.run(*line, FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1").stdout
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert "\x1b[" in coloured
    assert not colours.search(plain)


def test_a_result_begins_with_the_verdict(shop, task_id) -> None:
    lines = shop.run("performance", task_id).stdout.splitlines()
    assert lines[0].startswith("Result")
    assert "Prediction: " in lines[1]
    assert any(line.split()[:1] == ["test"] for line in lines)
