"""Scores in trees are those of padded rows and of each response alone, however many there are and wherever they run."""

import pytest
import tiny
import torch

from reward_distiller.model.layout import distinct_tokens
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel


def classifier(architecture="Qwen3", **options):
    chat = tiny.chat(pad_token="<pad>")
    return build_network(tiny.tiny_lm(len(chat.tokenizer), architecture, **options), chat, 0).classifier, chat


ROWS = [("How old is the oak?", [f"answer {i} " + "so " * (i % 5) for i in range(16)]), ("Why?", ["x"]), ("Who?", [])]


@pytest.mark.parametrize("slots", [30, 200, 16384])
def test_trees_padded_rows_and_single_forwards_agree(monkeypatch, slots):
    monkeypatch.setattr("reward_distiller.model.reward_model.SLOTS", slots)
    model, chat = classifier()
    padded = RewardModel(model, chat, layout="padded").score_rows(ROWS)
    tree_model = RewardModel(model, chat)
    counted = []
    trees = tree_model.score_rows(ROWS, lambda: counted.append(1))
    assert tree_model.layout == "trees"
    assert len(counted) == 17
    assert [len(r) for r in trees] == [16, 1, 0]
    assert trees[0] == pytest.approx(padded[0], abs=1e-5)
    assert trees[1] == pytest.approx(padded[1], abs=1e-5)
    alone = [tree_model.score(ROWS[0][0], [response])[0] for response in ROWS[0][1]]
    assert trees[0] == pytest.approx(alone, abs=1e-5)


def test_sixteen_responses_cost_one_prompt(monkeypatch):
    model, chat = classifier()
    scorer = RewardModel(model, chat)
    seen = []
    original = model.base_model.forward
    monkeypatch.setattr(
        model.base_model, "forward", lambda *a, **k: seen.append(k["input_ids"].numel()) or original(*a, **k)
    )
    scorer.score(*ROWS[0])
    ids = [chat.encode([{"role": "user", "content": ROWS[0][0]}], response).ids for response in ROWS[0][1]]
    assert sum(seen) == distinct_tokens(ids) < 0.5 * sum(map(len, ids))


def test_several_devices_share_the_work_and_change_nothing(monkeypatch):
    monkeypatch.setattr("reward_distiller.model.reward_model.SLOTS", 60)
    model, chat = classifier()
    one = RewardModel(model, chat).score_rows(ROWS)
    three = RewardModel(model, chat, devices=[torch.device("cpu")] * 2)
    counted = []
    assert three.score_rows(ROWS, lambda: counted.append(1)) == one
    assert len(three.classifiers) == 3
    assert len(counted) == 17


def test_what_cannot_run_on_trees_is_scored_in_rows_and_says_so(capsys):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model, chat = classifier("Llama", rope_parameters=rope)
    scorer = RewardModel(model, chat)
    assert scorer.layout == "padded"
    assert "rotary embedding of type dynamic" in capsys.readouterr().err
    assert len(scorer.score(*ROWS[0])) == 16
