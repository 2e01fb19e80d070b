"""A run whose teacher says how probable its tokens were, beside the same distributions from the teacher's LM."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import micro_config

from reward_distiller.config import parse_config
from reward_distiller.model.chat import load_chat
from reward_distiller.model.loading import load_teacher_lm
from reward_distiller.model.teacher_distributions import TopKStore, fill_from_lm
from reward_distiller.recipes.distributions import cache_distributions
from reward_distiller.recipes.reward_model import run, train_on_pairs, training_config
from reward_distiller.teacher.completion import read_completion
from reward_distiller.testbed.models import reply
from reward_distiller.testbed.parts import TestbedParts

TOP = 8


class SureTransport:
    """The scripted models; with a teacher's own response, a local LM's log-probabilities of its tokens."""

    def __init__(self, folder: Path):
        self.chat, self.lm = load_chat(str(folder)), load_teacher_lm(str(folder), torch.device("cpu"))

    async def send(self, model, request):
        chances = request.get("return_tokens_as_token_ids")
        asked = ("return_tokens_as_token_ids", "logprobs", "top_logprobs")
        body = json.loads(reply({k: v for k, v in request.items() if k not in asked}))
        if chances:
            text = read_completion(json.dumps(body).encode()).text
            body["choices"][0]["logprobs"] = {"content": self.content(request["messages"], text)}
        return json.dumps(body).encode()

    def content(self, messages, text):
        encoded = self.chat.encode(messages, text, supervised=True)
        [row] = fill_from_lm(self.lm, [(encoded.key, encoded)], TOP)
        top = row.padded()
        return [
            {"token": f"token_id:{token}", "logprob": -1.0, "top_logprobs": [said(i, p) for i, p in zip(ids, log_p)]}
            for token, ids, log_p in zip(row.target_T, top.ids_TK.tolist(), top.log_p_TK.tolist())
        ]

    async def close(self):
        return None


def said(identity, log_p):
    return {"token": f"token_id:{identity}", "logprob": log_p}


class SureParts(TestbedParts):
    __test__ = False

    @property
    def transports(self):
        return {"testbed": SureTransport(self.kl_teacher())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    own = {"alpha": 0.2, "beta": 0.2, "kl_top_logprobs": TOP, "kl_token_ids": True}
    data = micro_config(tmp_path_factory.mktemp("chances"), rm_distiller=own)
    data["prompts"]["testbed"]["count"] = 20
    config = parse_config(data)
    parts = SureParts(config.testbed, config.seed)
    run(config, parts)
    return config, parts, Path(config.output)


def test_what_the_run_keeps_is_what_the_teachers_lm_computes(tmp_path, finished):
    _, parts, folder = finished
    pairs, computed = str(folder / "pairs.jsonl"), tmp_path / "computed.safetensors"
    count = cache_distributions(pairs, str(parts.kl_teacher()), str(parts.student()), str(computed), TOP, None, "cpu")
    kept, local = TopKStore.open(folder / "distributions.safetensors"), TopKStore.open(computed)
    assert len(kept) == len(local) == count
    for key in local._row:
        ours, theirs = kept.get(key), local.get(key)
        assert np.array_equal(ours.target_T, theirs.target_T)
        assert np.array_equal(ours.id_N, theirs.id_N)
        assert np.allclose(ours.log_p_N, theirs.log_p_N, atol=1e-5)


def test_it_trains_on_them_as_on_a_file_made_beforehand(tmp_path, finished):
    """The same pairs with `kl_store`: another run, the same losses."""
    config, parts, folder = finished
    changes = [
        f"rm_distiller.kl_store={folder / 'distributions.safetensors'}",
        *("rm_distiller.alpha=0.2", "rm_distiller.beta=0.2"),
        *("training.learning_rate=1e-3", "training.threads=1", "training.max_length=256"),
    ]
    student = str(parts.student())
    given = training_config(str(folder / "pairs.jsonl"), student, str(tmp_path / "given"), "rm_distiller", changes)
    train_on_pairs(given, TestbedParts(config.testbed, config.seed))
    own, other = (
        [json.loads(line) for line in (where / "training.jsonl").read_text().splitlines()]
        for where in (folder, tmp_path / "given")
    )
    assert len(own) == len(other) > 0
    assert all(row["kl"] > 0.01 for row in own)
    assert own == other


def test_run_again_it_keeps_the_same_and_trains_nothing(finished, capsys):
    config, parts, folder = finished
    before = (folder / "distributions.safetensors").read_bytes()
    run(config, parts)
    assert (folder / "distributions.safetensors").read_bytes() == before
    assert "is up to date" in capsys.readouterr().err
