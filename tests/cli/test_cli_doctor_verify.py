"""doctor --verify finds damaged files, doctor --rebuild makes the registry anew."""

from __future__ import annotations

import json

from ktrdr_mcp.paths import Workspace


def checks(result) -> list[dict]:
    return json.loads(result.stdout)["checks"]


def test_a_damaged_model_is_found_and_a_lost_registry_is_rebuilt(run, tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    trained = run("train", "AAPL", "1h", "--epochs", "1", "--set", "walk_forward=null", "--json")
    task_id = json.loads(trained.stdout)["task_id"]
    saved = run("models", "save", task_id, "kept", "--json")
    path = workspace.root / json.loads(saved.stdout)["model_path"] / "weights.safetensors"
    assert run("doctor", "--verify", "--json").exit_code == 0

    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = run("doctor", "--verify", "--json")
    assert damaged.exit_code == 4
    assert any("weights.safetensors" in check["text"] for check in checks(damaged))
    path.write_bytes(content)

    card = path.with_name("model.json")
    content = card.read_bytes()
    card.write_bytes(b"{")
    for options in ([], ["--verify"]):  # named by both, and once
        damaged = run("doctor", *options, "--json")
        assert damaged.exit_code == 4
        assert sum("model.json" in check["text"] for check in checks(damaged)) == 1
    card.write_bytes(content)

    for file in workspace.internal.glob("ktrdr.db*"):
        file.unlink()
    rebuilt = run("doctor", "--rebuild", "--json")
    assert any(check["text"].startswith("1 models registered") for check in checks(rebuilt))
    assert run("models", "load", "kept", "--json").exit_code == 0
