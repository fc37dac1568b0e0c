"""KTRDR's own model folders are listed, loaded and used, or refused with the reason."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch

from ktrdr_mcp.errors import ModelCorrupted, ModelNameTaken, ModelNotFound, ModelNotReproducible
from ktrdr_mcp.interop.ktrdr import read
from ktrdr_mcp.interop.ktrdr.model_format import MODEL_FORMAT
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import replies
from ktrdr_mcp.service.model_cache import ModelCache, predict_one
from ktrdr_mcp.service.models import ModelCatalog
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRegistry
from ktrdr_mcp.training.formats import load
from ktrdr_mcp.training.predictor import Model, predict
from tests.support import ktrdr_writer
from tests.support.ktrdr_reader import features, load_network
from tests.support.saved_models import Saver, hourly_bars, table_of

BARS = np.arange(len(hourly_bars()) - 500, len(hourly_bars()))


class Series:
    """A source of the built-in bars."""

    def load(self, symbol: str, timeframe: str, *_: object) -> Any:
        class Loaded:
            bars = hourly_bars()
            notes = ()

        return Loaded


@pytest_asyncio.fixture
async def registry(tmp_path: Path) -> AsyncIterator[ModelRegistry]:
    async with await Database.open(tmp_path / "workspace" / ".ktrdr" / "ktrdr.db") as database:
        yield ModelRegistry(database)


def loaded(root: Path) -> Model:
    """The newest model called theirs."""
    workspace = Workspace(root)
    return load(workspace, MODEL_FORMAT.newest(workspace, "theirs"))


def test_the_probabilities_are_ktrdrs_on_500_bars(tmp_path) -> None:
    directory = ktrdr_writer.write(tmp_path)
    scores = predict(loaded(tmp_path), hourly_bars(), BARS)
    names, rows = features(ktrdr_writer.config(), table_of(hourly_bars()))
    with torch.no_grad():
        theirs = load_network_of(directory)(torch.from_numpy(rows)).numpy()
    assert names == ktrdr_writer.NAMES
    assert np.ptp(theirs[BARS], axis=0).min() > 0.001
    np.testing.assert_allclose(scores.probabilities, theirs[BARS], rtol=0, atol=1e-5)
    assert not (tmp_path / "canary").exists()


def load_network_of(directory: Path) -> torch.nn.Sequential:
    """KTRDR lowers the activation's name before it looks it up."""
    path = directory / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("Tanh", "tanh"), encoding="utf-8")
    return load_network(directory)


def test_parameters_beside_params_are_ignored_as_ktrdr_ignores_them(tmp_path) -> None:
    strategy = read.read(ktrdr_writer.write(tmp_path), "theirs").strategy
    by_name = {each.name: each for each in strategy.indicators}
    assert by_name["rsi"].params == {"period": 9}
    assert by_name["sma"].params == {}  # KTRDR's default
    assert by_name["sma"].source == "close"
    assert by_name["macd"].params == {"fast_period": 6}


UNREPRODUCIBLE = {
    "price context by default": (
        {"model__features": {"include_volume_context": False, "scale_features": False}},
        "include_price_context is true \\(KTRDR's default\\)",
    ),
    "volume context": ({"model__features__include_volume_context": True}, "features of volumes"),
    "raw indicators": ({"model__features__include_raw_indicators": True}, "raw indicators"),
    "a scaler": ({"model__features__scale_features": True}, "never opened"),
    "no features section": ({"model__features": {}}, "include_price_context"),
    "another indicator": (
        {"indicators": [{"name": "rsi"}, {"name": "cci"}], "fuzzy_sets__cci": {}},
        "'cci', which is not computed alike",
    ),
    "an average by another name": (
        {"indicators": [{"name": "sma_fast", "type": "SMA"}], "fuzzy_sets__sma_fast": {}},
        "is not called sma",
    ),
    "names that begin alike": (
        {"indicators": [{"name": "rsi_long", "type": "RSI"}, {"name": "rsi"}]},
        "may take 'rsi_long'",
    ),
    "an average without adjustment": (
        {"indicators": [{"name": "ema", "params": {"adjust": False}}]},
        "parameters that are not computed alike",
    ),
    "a period that is text": (
        {"indicators": [{"name": "rsi", "params": {"period": "9"}}]},
        "not a whole number",
    ),
    "a period that is too long": (
        {"indicators": [{"name": "rsi", "params": {"period": 10**9}}]},
        "period",
    ),
    "a volume average": (
        {"indicators": [{"name": "sma", "params": {"source": "volume"}}]},
        "computed from 'volume'",
    ),
    "shorthand sets": ({"fuzzy_sets__rsi": {"low": [0, 10, 30]}}, "fuzzy_sets.rsi.low"),
    "a set without width": (
        {"fuzzy_sets__rsi": {"low": {"type": "triangular", "parameters": [3, 3, 3]}}},
        "no width",
    ),
    "fewer features": (
        {
            "fuzzy_sets__macd": {
                "up": {"parameters": [0, 2, 20]},
                "down": {"parameters": [-20, -2, 0]},
            }
        },
        "names other features",
    ),
    "the later form": ({"indicators": {"rsi_14": {"type": "rsi"}}}, "no list of indicators"),
    "no indicators used": ({"fuzzy_sets": {}}, "0 indicators"),
    "another network": ({"model__type": "lstm"}, "not a multilayer perceptron"),
    "a huge network": ({"model__architecture__hidden_layers": [10**7]}, "bounded size"),
    "a threshold that is text": (
        {"decisions": {"confidence_threshold": "high"}},
        "confidence_threshold is not a number",
    ),
    "filters that are a list": ({"decisions": {"filters": [4]}}, "decisions are not a mapping"),
    "no softmax": ({"model__architecture__output_activation": "linear"}, "not a softmax"),
}


@pytest.mark.parametrize("case", UNREPRODUCIBLE)
def test_what_cannot_be_reproduced_is_refused_with_the_reason(tmp_path, case) -> None:
    changes, expected = UNREPRODUCIBLE[case]
    directory = ktrdr_writer.write(tmp_path)
    made = ktrdr_writer.config(**changes)
    (directory / "config.json").write_text(json.dumps(made), encoding="utf-8")
    with pytest.raises(ModelNotReproducible, match=expected) as refused:
        read.read(directory, "theirs")
    assert refused.value.hint.startswith("In KTRDR" if case == "a scaler" else "Train its strategy")
    assert MODEL_FORMAT.newest(Workspace(tmp_path), "theirs") is not None, "it is still listed"


def test_features_in_another_order_are_refused(tmp_path) -> None:
    directory = ktrdr_writer.write(tmp_path)
    listed = {"feature_names": sorted(ktrdr_writer.NAMES)}
    (directory / "features.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(ModelNotReproducible, match=r"features\.json"):
        read.read(directory, "theirs")


def test_a_list_shows_them_newest_first_with_their_figures(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    ktrdr_writer.write(tmp_path, created_at="2025-06-10T12:00:00.123456")
    ktrdr_writer.write(tmp_path, version=2, created_at="2025-06-12T12:00:00.5")
    ktrdr_writer.write(tmp_path, name="other", series="MSFT_1d", created_at="2025-06-11T00:00:00")
    rows = MODEL_FORMAT.rows(workspace)
    listed = [(row.model_name, row.version, row.symbol, row.timeframe) for row in rows]
    assert listed == [
        ("theirs", 2, "AAPL", "1h"),
        ("other", 1, "MSFT", "1d"),
        ("theirs", 1, "AAPL", "1h"),
    ]
    assert rows[0].created_at == "2025-06-12T12:00:00Z"
    assert (rows[0].training_accuracy, rows[0].test_accuracy) == (0.61, 0.43)
    assert rows[0].description == "Momentum beside two averages."
    assert rows[0].architecture == "mlp_12_6"
    parameters = (len(ktrdr_writer.NAMES) + 1) * 12 + 13 * 6 + 7 * 3
    assert rows[0].model_size_mb == parameters * 4 / 1e6
    assert len({row.model_id for row in rows}) == 3
    assert [row.symbol for row in MODEL_FORMAT.rows(workspace, "MSFT")] == ["MSFT"]
    assert MODEL_FORMAT.names(workspace, "th") == ["theirs"]


def test_links_other_names_and_damaged_folders_are_passed_over(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    directory = ktrdr_writer.write(tmp_path)
    (directory.parent / "AAPL_1h_latest").symlink_to(directory.name)
    (tmp_path / "models" / "linked").symlink_to("theirs")
    (directory.parent / "AAPL_1h_v7").symlink_to(directory.name)
    for odd in ("1h_v1", "AAPL_1h_vx", "AAPL_2h_v1", "aapl_1h_v1"):
        shutil.copytree(directory, directory.parent / odd)
    shutil.copytree(directory.parent, tmp_path / "models" / "Not A Name", symlinks=True)
    damaged = ktrdr_writer.write(tmp_path, version=2)
    (damaged / "metadata.json").write_text("{}", encoding="utf-8")
    assert [row.path for row in MODEL_FORMAT.rows(workspace)] == ["models/theirs/AAPL_1h_v1"]


def test_a_name_with_nothing_but_damage_says_so(tmp_path) -> None:
    directory = ktrdr_writer.write(tmp_path)
    (directory / "config.json").unlink()
    with pytest.raises(ModelCorrupted, match=r"config\.json"):
        MODEL_FORMAT.newest(Workspace(tmp_path), "theirs")


def test_saved_models_are_not_taken_for_ktrdrs(saver) -> None:
    saver.saved("model")
    assert MODEL_FORMAT.rows(saver.workspace) == []


def test_a_save_does_not_mix_with_ktrdrs_versions(saver) -> None:
    ktrdr_writer.write(saver.root)
    with pytest.raises(ModelNameTaken, match="KTRDR wrote"):
        saver.saved("theirs")
    assert not saver.workspace.strategy_file("theirs").exists()


def prediction(workspace: Workspace, **changes: Any):
    row = MODEL_FORMAT.newest(workspace, "theirs")
    request = {"model_name": "theirs", "symbol": "AAPL", "timeframe": "1h", **changes}
    return predict_one(ModelCache(workspace).load(row), parse(requests.Predict, request), Series())


def test_a_prediction_says_that_the_training_range_is_not_known(tmp_path) -> None:
    ktrdr_writer.write(tmp_path, created_at="2025-06-10T12:00:00")
    before = prediction(Workspace(tmp_path), test_date="2025-06-09")
    assert before.in_sample
    assert any("counts as in-sample" in warning for warning in before.warnings)
    after = prediction(Workspace(tmp_path), test_date="2025-06-16")
    assert not after.in_sample
    assert not any("in-sample" in warning for warning in after.warnings)
    assert set(after.input_features) == {"rsi", "sma", "ema", "macd"}
    assert sum(after.prediction.probabilities.values()) == pytest.approx(1)


def test_a_card_is_strict_json_and_says_where_it_comes_from(tmp_path) -> None:
    ktrdr_writer.write(tmp_path)
    workspace = Workspace(tmp_path)
    card = MODEL_FORMAT.card(workspace, MODEL_FORMAT.newest(workspace, "theirs"))
    json.dumps(card, allow_nan=False)
    assert card["origin"] == "ktrdr"
    assert card["metrics"]["final_val_loss"] is None
    assert "scaler.pkl" not in card["files"]


@pytest.mark.asyncio
async def test_pages_have_all_models_in_the_order_of_their_making(tmp_path, registry) -> None:
    saver = Saver(tmp_path / "workspace")
    for version in (1, 2, 3):
        saver.train(f"task{version}", saver.strategy("default", None), seed=version)
        await registry.insert(saver.save("model", f"task{version}", version=version))
    for version, year in ((1, 2025), (2, 2099)):
        ktrdr_writer.write(saver.root, version=version, created_at=f"{year}-06-01T00:00:00")
    library = ModelCatalog(saver.workspace, registry)
    expected = [("theirs", 2), ("model", 3), ("model", 2), ("model", 1), ("theirs", 1)]
    for limit in range(1, 7):
        seen: list[tuple[str, int]] = []
        more = True
        while more:
            request = parse(requests.ListModels, {"limit": limit, "offset": len(seen)})
            page = replies.model_list(*await library.page(request))
            seen += [(row.model_name, row.version) for row in page.models]
            more = page.has_more
            assert page.returned == len(page.models) <= limit
            assert all(
                (row.origin == "ktrdr") == (row.model_name == "theirs") for row in page.models
            )
        assert seen == expected
    assert (await library.newest("theirs")).version == 2
    assert (await library.newest("model")).version == 3
    assert await library.names("", 20) == ["model", "theirs"]
    with pytest.raises(ModelNotFound) as unknown:
        await library.newest("thers")
    assert "Written by KTRDR: theirs" in unknown.value.hint


def scaled(root: Path) -> Path:
    """A model that KTRDR wrote with a scaler, which lies in a pickle."""
    made = ktrdr_writer.config(model__features__scale_features=True)
    return ktrdr_writer.write(root, made=made)


def test_a_scaler_is_read_from_the_file_that_the_hint_writes(tmp_path) -> None:
    directory = scaled(tmp_path)
    with pytest.raises(ModelNotReproducible, match="never opened") as refused:
        loaded(tmp_path)
    _, command = refused.value.hint.split(": ", 1)
    mean, scale = np.linspace(0.1, 0.5, 5), np.linspace(0.2, 0.4, 5)
    pickled = SimpleNamespace(mean_=mean, scale_=scale)  # as a StandardScaler has them
    (directory / "scaler.pkl").write_bytes(pickle.dumps(pickled))
    program = shlex.split(command)
    subprocess.run([sys.executable, *program[1:]], cwd=directory, check=True, timeout=60)
    scores = predict(loaded(tmp_path), hourly_bars(), BARS)
    _, rows = features(ktrdr_writer.config(), table_of(hourly_bars()))
    with torch.no_grad():
        inputs = torch.from_numpy(((rows - mean) / scale).astype(np.float32))
        theirs = load_network_of(directory)(inputs).numpy()
    np.testing.assert_allclose(scores.probabilities, theirs[BARS], rtol=0, atol=1e-5)


def test_the_hint_writes_a_minmax_scaler_in_the_same_form(tmp_path) -> None:
    directory = scaled(tmp_path)
    with pytest.raises(ModelNotReproducible) as refused:
        loaded(tmp_path)
    low, high = np.arange(5.0), 2 * np.arange(5.0) + 1
    pickled = SimpleNamespace(scale_=1 / (high - low), min_=-low / (high - low))
    (directory / "scaler.pkl").write_bytes(pickle.dumps(pickled))
    program = shlex.split(refused.value.hint.split(": ", 1)[1])
    subprocess.run([sys.executable, *program[1:]], cwd=directory, check=True, timeout=60)
    transformed = loaded(tmp_path).scaler.transform(np.vstack([low, high]))
    np.testing.assert_allclose(transformed, [[0] * 5, [1] * 5], atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_features": 4},
        {"mean": [0, 0, 0, 0]},
        {"scale": [1, 1, 1, 1, 0]},
        {"scale": [1, 1, 1, 1, float("nan")]},
        {"mean": "nothing"},
    ],
)
def test_a_scaler_that_does_not_fit_is_damage(tmp_path, changes) -> None:
    values = {"mean": [0] * 5, "scale": [1] * 5, "n_features": 5, **changes}
    (scaled(tmp_path) / "scaler.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelCorrupted, match=r"scaler\.json"):
        loaded(tmp_path)


def test_a_folder_of_ktrdrs_later_layout_is_listed_with_the_reason(tmp_path) -> None:
    directory = tmp_path / "models" / "later" / "1h_v3"
    directory.mkdir(parents=True)
    metadata = {"created_at": "2026-04-01T10:00:00", "training_symbols": ["EURUSD"]}
    (directory / "metadata_v3.json").write_text(json.dumps(metadata), encoding="utf-8")
    workspace = Workspace(tmp_path)
    (row,) = MODEL_FORMAT.rows(workspace)
    listed = (row.model_name, row.symbol, row.timeframe, row.version, row.created_at)
    assert listed == ("later", "EURUSD", "1h", 3, "2026-04-01T10:00:00Z")
    assert "metadata_v3.json" in row.description
    with pytest.raises(ModelNotReproducible, match=r"metadata_v3\.json"):
        load(workspace, row)
    assert MODEL_FORMAT.card(workspace, row)["metadata"] == metadata
