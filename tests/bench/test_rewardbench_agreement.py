"""What the agreement with the `rewardbench` package rests on; the package itself runs only in its own environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.rewardbench_agreement import in_old_names


def written(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_special_tokens": ["<a>"], "pad_token": "<p>"}))
    return folder


def test_a_copy_with_old_names_keeps_rope_dtype_and_special_tokens(tmp_path: Path) -> None:
    yarn = {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}
    model = written(tmp_path / "model", {"dtype": "float32", "rope_parameters": yarn, "hidden_size": 8})
    before = (model / "config.json").read_text()
    in_old_names(model, tmp_path / "old")
    assert json.loads((tmp_path / "old" / "config.json").read_text()) == {
        "torch_dtype": "float32",
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        "hidden_size": 8,
    }
    tokenizer = json.loads((tmp_path / "old" / "tokenizer_config.json").read_text())
    assert tokenizer == {"additional_special_tokens": ["<a>"], "pad_token": "<p>"}
    assert (tmp_path / "old" / "model.safetensors").read_bytes() == b"weights"
    assert (model / "config.json").read_text() == before  # the copy's files are its own


def test_a_plain_rope_has_no_scaling(tmp_path: Path) -> None:
    model = written(tmp_path / "model", {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})
    in_old_names(model, tmp_path / "old")
    assert json.loads((tmp_path / "old" / "config.json").read_text()) == {"rope_theta": 5e5}
