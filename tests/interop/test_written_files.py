"""What a save leaves for KTRDR, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError, StorageFull
from ktrdr_mcp.interop.ktrdr import model_format
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.parsing import parse_strategy
from ktrdr_mcp.training.config import effective
from tests.support.ktrdr_reader import load_network

FILES = {"model.pt", "config.json", "metrics.json", "features.json", "metadata.json"}
OURS = {
    "bundle.json",
    "weights.safetensors",
    "history.json",
    "seen.safetensors",
    "model.json",
}
TWO_AVERAGES = """
indicators:
  - {name: fast, type: sma, params: {period: 10}}
  - {name: slow, type: sma, params: {period: 50}}
fuzzy_sets: {fast: auto, slow: auto}
"""
INCOMPATIBLE = {
    "two averages": (TWO_AVERAGES, "one of each type"),
    "a TA-Lib indicator": (
        "indicators: [{name: adx, type: talib.ADX}]\nfuzzy_sets: {adx: auto}",
        "talib.ADX, which KTRDR does not compute",
    ),
    "a crisp feature": (
        "indicators: [{name: rsi, type: rsi}]\nfuzzy_sets: {rsi: crisp}",
        "is crisp",
    ),
    "a gaussian set": (
        """
indicators: [{name: rsi}]
fuzzy_sets: {rsi: {low: {type: gaussian, parameters: [30, 10]}, high: [50, 70, 90]}}
""",
        "'low' of 'rsi' is gaussian",
    ),
    "a trapezoid": (
        "indicators: [{name: rsi}]\nfuzzy_sets: {rsi: {low: [0, 10, 30, 40], high: [50, 70, 90]}}",
        "trapezoidal",
    ),
    "a raw average": (
        "indicators: [{name: sma, type: sma, raw: true}]\nfuzzy_sets: {sma: auto}",
        "is raw",
    ),
    "a long period": (
        "indicators: [{name: rsi, period: 101}]\nfuzzy_sets: {rsi: auto}",
        "KTRDR takes at most 100",
    ),
}


def reasons(row) -> list[str]:
    return row.details["ktrdr"]["incompatibilities"]


def target_of_link(saver) -> str:
    return str((saver.root / "models" / "model" / "AAPL_1h_latest").readlink())


def document(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_five_files_lie_beside_the_bundle_and_nothing_else(saver) -> None:
    directory = saver.root / saver.saved("model").path
    assert {path.name for path in directory.iterdir()} == FILES | OURS
    assert not list(directory.parent.glob(".staging-*"))


def test_the_documents_say_what_ktrdr_needs(saver) -> None:
    row = saver.saved("model", hidden_layers=[16, 8], dropout_rate=0.25)
    directory = saver.root / row.path
    metadata, config = document(directory / "metadata.json"), document(directory / "config.json")
    assert metadata["strategy_name"] == config["name"] == "model"
    assert (metadata["symbol"], metadata["timeframe"]) == ("AAPL", "1h")
    assert metadata["input_size"] == config["model"]["input_size"] == 9
    assert metadata["is_trained"] is True
    assert metadata["training_summary"] == {
        "epochs": 1,
        "final_accuracy": 0.4,
        "best_val_accuracy": 0.3,
    }
    assert config["architecture"] == config["model"]["architecture"]
    assert config["architecture"] == {
        "hidden_layers": [16, 8],
        "activation": "relu",
        "dropout": 0.25,
        "output_activation": "softmax",
    }
    assert config["features"] == config["model"]["features"]
    assert config["indicators"] == [
        {"name": "rsi", "params": {"period": 14}},
        {"name": "sma", "params": {"period": 20}},
        {"name": "ema", "params": {"period": 20}},
    ]
    metrics = document(directory / "metrics.json")
    assert metrics["training_time"] == 30.0
    assert metrics["history"]["val_loss"] == [1.1]


def test_the_state_dict_is_plain_and_in_ktrdrs_order(saver) -> None:
    directory = saver.root / saver.saved("model", hidden_layers=[16, 8]).path
    state = torch.load(directory / "model.pt", weights_only=True)
    keys = ["0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias"]
    assert list(state) == keys
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert state["0.weight"].shape == (16, 9)


def test_this_program_reads_the_strategy_file_too(saver) -> None:
    saver.saved("model", epochs=7, batch_size=64, hidden_layers=[16], lr_scheduler={"type": "step"})
    strategy = StrategyCatalog(saver.workspace).read("model")
    config = effective(TrainingConfig(), strategy)
    assert (config.epochs, config.batch_size, config.hidden_layers) == (7, 64, [16])
    assert config.lr_scheduler is not None
    assert [each.type for each in strategy.indicators] == ["rsi", "sma", "ema"]


@pytest.mark.parametrize("case", INCOMPATIBLE)
def test_what_ktrdr_cannot_compute_is_saved_and_said(saver, case) -> None:
    text, expected = INCOMPATIBLE[case]
    row = saver.saved("model", "odd", text)
    assert any(expected in sentence for sentence in reasons(row))
    directory = saver.root / row.path
    assert {path.name for path in directory.iterdir()} >= FILES
    assert (
        load_network(directory)[0].in_features
        == document(directory / "metadata.json")["input_size"]
    )
    assert not saver.workspace.strategy_file("model").exists()
    assert (directory.parent / "AAPL_1h_latest").resolve() == directory.resolve()


def test_many_reasons_are_cut_short(saver) -> None:
    indicators = "\n".join(f"  - {{name: i{n}, type: talib.ADX}}" for n in range(30))
    sets = "\n".join(f"  i{n}: crisp" for n in range(30))
    row = saver.saved("model", "odd", f"indicators:\n{indicators}\nfuzzy_sets:\n{sets}\n")
    assert len(reasons(row)) == 6
    assert "55 more" in reasons(row)[-1]


def test_a_feature_that_hardly_varies_is_said_where_rounding_costs_too_much(saver) -> None:
    text = (
        "indicators: [{name: sma}, {name: rsi}]\n"
        "fuzzy_sets: {sma: {near: [-1000000, 1, 1000000]}, rsi: auto}\n"
    )
    row = saver.saved("model", "flat", text)
    assert any("rounding" in sentence for sentence in reasons(row))
    assert not saver.workspace.strategy_file("model").exists()


def test_the_link_is_relative_and_leads_to_the_newest_version(saver) -> None:
    for version in (1, 2, 3, 10):
        saver.train(f"task{version}", saver.strategy("default", None), seed=version)
        row = saver.save("model", f"task{version}", version=version)
        link = saver.root / "models" / "model" / "AAPL_1h_latest"
        assert link.is_symlink()
        assert str(link.readlink()) == f"AAPL_1h_v{version}" == Path(row.path).name
    assert not list(link.parent.glob(".staging-*"))


def test_registering_an_older_version_after_a_crash_leaves_the_newest_in_place(saver) -> None:
    for version in (1, 2):
        saver.train(f"task{version}", saver.strategy("default", None), seed=version)
        saver.save("model", f"task{version}", version=version)
    before = saver.workspace.strategy_file("model").read_bytes()
    again = saver.save("model", "task1", version=1)  # as if it had never been registered
    assert again.version == 1
    assert target_of_link(saver) == "AAPL_1h_v2"
    assert saver.workspace.strategy_file("model").read_bytes() == before
    assert reasons(again) == ["Version 2 is newer, and KTRDR uses the newest."]


def test_a_save_that_died_before_its_link_goes_on_from_there(saver, monkeypatch) -> None:
    saver.train("task", saver.strategy("default", None))

    def died(*_: object) -> list[str]:
        raise StorageFull("No space left.", hint="Free disk space.")

    with monkeypatch.context() as patched:
        patched.setattr(model_format, "link_latest", died)
        with pytest.raises(StorageFull):
            saver.save("model", "task")
    assert not saver.workspace.strategy_file("model").exists()
    row = saver.save("model", "task")
    assert (row.version, reasons(row)) == (1, [])
    assert target_of_link(saver) == "AAPL_1h_v1"
    assert saver.workspace.strategy_file("model").exists()


def test_a_folder_in_the_links_place_is_left_alone_and_said(saver) -> None:
    folder = saver.root / "models" / "model" / "AAPL_1h_latest"
    folder.mkdir(parents=True)
    row = saver.saved("model")
    assert any("AAPL_1h_latest" in sentence for sentence in reasons(row))
    assert folder.is_dir()
    assert not folder.is_symlink()


def test_without_links_ktrdr_takes_the_highest_version(saver, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise StorageError("Links are not allowed here.", hint="None.")

    monkeypatch.setattr(files, "link", refused)
    row = saver.saved("model")
    assert reasons(row) == []
    assert not (saver.root / "models" / "model" / "AAPL_1h_latest").exists()


@pytest.mark.parametrize("edit", ["a user's own", "edited since", "a link"])
def test_a_users_strategy_file_is_never_overwritten(saver, edit) -> None:
    path = saver.workspace.strategy_file("model")
    path.parent.mkdir(parents=True)
    if edit == "a user's own":
        path.write_text("name: model\n", encoding="utf-8")
    elif edit == "edited since":
        saver.saved("model")
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("period: 14", "period: 15"), encoding="utf-8")
    else:
        saver.saved("other")
        path.symlink_to(saver.workspace.strategy_file("other").name)
    before = path.read_bytes()
    saver.train("again", saver.strategy("default", None), seed=5)
    row = saver.save("model", "again", version=2)
    assert path.read_bytes() == before
    assert len(reasons(row)) == 1
    assert "strategies/model.yaml" in reasons(row)[0]
    assert (saver.root / row.path / "model.pt").is_file()


def test_a_built_in_strategy_is_not_hidden_by_a_model_of_its_name(saver) -> None:
    row = saver.saved("default")
    assert not saver.workspace.strategy_file("default").exists()
    assert "built-in" in reasons(row)[0]


def test_an_incompatible_version_removes_the_strategy_file_of_the_one_before(saver) -> None:
    saver.saved("model")
    assert saver.workspace.strategy_file("model").exists()
    saver.train("odd", parse_strategy(TWO_AVERAGES, "odd"))
    row = saver.save("model", "odd", version=2)
    assert reasons(row)
    assert not saver.workspace.strategy_file("model").exists()


def test_ktrdrs_own_decision_settings_are_kept(saver) -> None:
    text = (
        "indicators: [{name: rsi}]\nfuzzy_sets: {rsi: auto}\n"
        "decisions: {confidence_threshold: 0.4}\n"
        "orchestrator: {max_position_size: 0.5}\n"
    )
    saver.saved("model", "decided", text)
    written = yaml.safe_load(saver.workspace.strategy_file("model").read_text(encoding="utf-8"))
    assert written["decisions"]["confidence_threshold"] == 0.4
    assert written["decisions"]["position_awareness"] is True
    assert written["orchestrator"] == {"max_position_size": 0.5}
