"""What a trained model says of its own pairs: every reward, why one is missing, values along responses, going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from micro import micro_config

from reward_distiller.config import Config, parse_config
from reward_distiller.errors import ModelError
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.recipes import pair_rewards
from reward_distiller.recipes.pair_rewards import (
    chosen_pairs,
    disagreements,
    most_telling,
    scaled,
    splits,
    write_pair_rewards,
)
from reward_distiller.recipes.store import Store
from reward_distiller.records import Pair, Prompt

LONG = "so " * 300


def saved(folder: Path, source: str | None = None, template: str = tiny.CHATML, critic: Any = None) -> RewardModel:
    chat = tiny.chat(template, pad_token="<pad>", eos_token="<|im_end|>", bos_token="<s>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer), "Qwen3", head_dim=8), chat, 0)
    need = CritiqueNeed(source, "Critique it.", 8).as_dict() if source else None
    save_reward_model(network, chat, folder / "model", {"needs_at_inference": need, "run_key": "made of this"})
    return RewardModel.from_pretrained(str(folder / "model"), critic=critic)


def config_of(folder: Path, **changes: Any) -> Config:
    return parse_config(micro_config(folder, evaluation={"held_out": 0.3}, **changes))


def written(folder: Path, name: str = "pair_rewards") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


def test_every_pair_has_the_rewards_that_scoring_gives_it_and_its_split(tmp_path: Path) -> None:
    model, config, pairs = saved(tmp_path), config_of(tmp_path), tiny.pairs(20)
    write_pair_rewards(tmp_path, config, model, pairs)
    rows = written(tmp_path)
    assert [row["id"] for row in rows] == [p.id for p in pairs]
    for pair, row in zip(pairs, rows, strict=True):
        alone = model.score(pair.prompt.as_dicts(), [pair.chosen, pair.rejected])
        assert [row["chosen"], row["rejected"]] == pytest.approx(alone, abs=1e-5)
    assert {row["split"] for row in rows} == {"training", "held_out"}
    assert {row["prompt_id"]: row["split"] for row in rows} == {r["prompt_id"]: r["split"] for r in reversed(rows)}


def test_pairs_that_choose_the_weights_are_told_from_those_that_train_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, training={"validation": 0.4})
    found = splits(config, tiny.pairs(40))
    assert set(found.values()) == {"training", "validation", "held_out"}


def test_values_along_a_response_end_where_its_pieces_end(tmp_path: Path) -> None:
    model, config = saved(tmp_path), config_of(tmp_path)
    prompt = Prompt.from_text("Greet me.")
    pair = Pair.of(prompt, "héllo 👋🏽 שלום", "a", "refined", chosen_score=9.0, rejected_score=1.0)
    write_pair_rewards(tmp_path, config, model, [pair])
    (row,) = written(tmp_path, "token_values")
    for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        values = row[side]
        assert values["ends"] == sorted(set(values["ends"]))
        assert values["ends"][-1] == len(text)
        assert len(values["values"]) == len(values["ends"]) == len(text)  # of several bytes the last one counts
        assert values["end"] == pytest.approx(model.score(prompt.as_dicts(), [text])[0], abs=1e-4)
    assert row["chosen"]["opening"] == pytest.approx(row["rejected"]["opening"], abs=1e-4)
    # A value is what the head says at the end of a chat that stops there, before the template closes it.
    ids = model.chat.pieces(prompt.as_dicts(), pair.chosen)
    prefix = type(ids.chat)(ids.chat.ids[: ids.at[1] + 1])
    assert row["chosen"]["values"][1] == pytest.approx(model.score_encoded([prefix])[0], abs=1e-4)


def test_values_of_trees_and_of_padded_rows_agree(tmp_path: Path) -> None:
    model = saved(tmp_path)
    rows = RewardModel.from_pretrained(str(tmp_path / "model"), layout="padded")
    sequences = [s for p in tiny.pairs(4) for s in model.encode(p.prompt.as_dicts(), [p.chosen, p.rejected])]
    trees, padded = model.values_encoded(sequences), rows.values_encoded(sequences)
    assert [len(v) for v in trees] == [len(s) for s in sequences]
    for a, b in zip(trees, padded, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert [v[-1] for v in trees] == pytest.approx(model.score_encoded(sequences), abs=1e-6)


def test_a_template_that_trims_leaves_the_pieces_where_they_are_in_the_response() -> None:
    chat = tiny.chat(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>")
    pieces = chat.pieces([{"role": "user", "content": "Hi"}], "  yes \n")
    assert pieces.ends == (3, 4, 7)  # the spaces cut off count to the pieces at the ends
    assert pieces.chat == chat.encode([{"role": "user", "content": "Hi"}], "  yes \n")
    changing = tiny.CHATML.replace("m.content", "(m.content | upper)")
    with pytest.raises(ModelError, match="changes the text"):
        tiny.chat(changing).pieces([{"role": "user", "content": "Hi"}], "yes")


def test_what_is_too_long_has_no_rewards_and_says_why(tmp_path: Path) -> None:
    model, config = saved(tmp_path), config_of(tmp_path)
    long = Pair.of(Prompt.from_text("?"), LONG, "b", "sampled", chosen_score=5.0, rejected_score=3.0)
    write_pair_rewards(tmp_path, config, model, [*tiny.pairs(2), long])
    last = written(tmp_path)[-1]
    assert last["without"] == pair_rewards.TOO_LONG
    assert "chosen" not in last
    assert long.id not in [row["id"] for row in written(tmp_path, "token_values")]


@pytest.mark.parametrize("chunk", [3, 128])
def test_a_killed_scoring_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(pair_rewards, "CHUNK", chunk)
    monkeypatch.setattr(pair_rewards, "TOKEN_CHUNK", chunk)
    model, config, pairs = saved(tmp_path), config_of(tmp_path), tiny.pairs(12)
    write_pair_rewards(tmp_path, config, model, pairs)
    files = [tmp_path / "pair_rewards.jsonl", tmp_path / "token_values.jsonl"]
    whole = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])  # a torn line at the end
    write_pair_rewards(tmp_path, config, model, pairs)
    assert [file.read_bytes() for file in files] == whole

    def never(*_: Any) -> None:
        raise AssertionError("nothing is scored twice")

    monkeypatch.setattr(model, "_in_batches", never)
    monkeypatch.setattr(model, "score_rows", lambda rows, **_: never() if rows else [])
    write_pair_rewards(tmp_path, config, model, pairs)
    assert [file.read_bytes() for file in files] == whole


def test_another_model_scores_anew(tmp_path: Path) -> None:
    model, config, pairs = saved(tmp_path), config_of(tmp_path), tiny.pairs(3)
    write_pair_rewards(tmp_path, config, model, pairs)
    first = written(tmp_path)
    facts = tmp_path / "model" / "config.json"
    facts.write_text(facts.read_text("utf-8").replace("made of this", "made of that"), "utf-8")
    with torch.no_grad():
        model.classifiers[0].score.weight.mul_(2)
    write_pair_rewards(tmp_path, config, model, pairs)
    second = written(tmp_path)
    assert [r["chosen"] for r in second] == pytest.approx([2 * r["chosen"] for r in first], abs=1e-5)


def test_nothing_is_written_where_the_report_wants_none(tmp_path: Path) -> None:
    model, pairs = saved(tmp_path), tiny.pairs(3)
    write_pair_rewards(tmp_path, config_of(tmp_path, report={"token_values": 0}), model, pairs)
    assert written(tmp_path, "token_values") == []
    write_pair_rewards(tmp_path, config_of(tmp_path, report={"pairs": 0}), model, pairs)
    assert not (tmp_path / "pair_rewards.jsonl").exists()


def test_a_teachers_critiques_come_with_the_pairs_or_the_reward_is_missing(tmp_path: Path) -> None:
    def asked(_: Any) -> list[list[str]]:
        raise AssertionError("no teacher is asked for the report")

    model = saved(tmp_path, "teacher", critic=asked)
    first, second, *_ = tiny.pairs(2)
    first = first.model_copy(update={"chosen_critique": "good", "rejected_critique": "bad"})
    write_pair_rewards(tmp_path, config_of(tmp_path), model, [first, second])
    with_, without = written(tmp_path)
    expected = model.score_rows(
        [(first.prompt.as_dicts(), [first.chosen, first.rejected])], critiques=[["good", "bad"]]
    )
    assert [with_["chosen"], with_["rejected"]] == pytest.approx(expected[0], abs=1e-5)
    assert without["without"] == pair_rewards.NO_CRITIQUE
    assert [row["without"] for row in written(tmp_path, "token_values")] == [pair_rewards.BEHIND_CRITIQUE]


def test_its_own_critiques_are_those_it_was_trained_with_and_new_ones_for_other_pairs(tmp_path: Path) -> None:
    model = saved(tmp_path, "self")
    first, second, *_ = tiny.pairs(2)
    kept = {"run_key": "made of this", "id": first.id, "chosen": "fine", "rejected": "poor"}
    (tmp_path / "own_critiques.jsonl").write_text(json.dumps(kept) + "\n", "utf-8")
    write_pair_rewards(tmp_path, config_of(tmp_path), model, [first, second])
    known, fresh = written(tmp_path)
    expected = model.score_rows(
        [(first.prompt.as_dicts(), [first.chosen, first.rejected])], critiques=[["fine", "poor"]]
    )
    assert [known["chosen"], known["rejected"]] == pytest.approx(expected[0], abs=1e-5)
    assert [fresh["chosen"], fresh["rejected"]] == pytest.approx(
        model.score(second.prompt.as_dicts(), [second.chosen, second.rejected]), abs=1e-4
    )


def test_disagreement_is_in_points_of_the_teachers_scale() -> None:
    assert scaled([1.0, -1.0, None], [2.0, 2.0, 4.0]) == [2.0, -2.0, None]
    assert disagreements([1.0, -1.0, None], [2.0, 2.0, 4.0]) == [0.0, 4.0, None]
    assert disagreements([3.0, -3.0], [None, None]) == [0.0, 1.0]  # only the verdict is known
    assert disagreements([0.0], [2.0]) == [2.0]


def test_the_most_telling_are_disagreements_first_and_then_large_edits() -> None:
    prompt = Prompt.from_text("?")

    def pair(number: int, source: Any, chosen: str) -> Pair:
        return Pair.of(prompt, chosen, f"a b c d {number}", source, chosen_score=4.0, rejected_score=2.0)

    sampled = [pair(n, "sampled", f"x y {n}") for n in range(6)]
    small, large = pair(6, "refined", "a b c e 6"), pair(7, "refined", "v w x y z")
    pairs = [*sampled, small, large]
    scored = {
        p.id: {"chosen": 2.0 - n, "rejected": 0.0} for n, p in enumerate(sampled)
    }  # ever further from the teacher
    scored |= {p.id: {"chosen": 2.0, "rejected": 0.0} for p in (small, large)}
    assert most_telling(pairs, scored, 4) == [*sampled[3:], large]
    assert most_telling(pairs, scored, 100) == pairs
    assert most_telling(pairs[:6], scored, 2) == sampled[4:]
    assert most_telling(pairs, {}, 4) == []


def test_the_pairs_of_a_report_are_drawn_by_prompt_and_keep_their_order() -> None:
    pairs = tiny.pairs(30)
    some = chosen_pairs(pairs, 10, seed=0)
    assert len(some) == 10
    assert some == [p for p in pairs if p in some]
    assert some != chosen_pairs(pairs, 10, seed=1)
    assert chosen_pairs(pairs, 1000, seed=0) == pairs
    whole = [p.prompt.id for p in some]
    halved = [at for at in whole if whole.count(at) < [p.prompt.id for p in pairs].count(at)]
    assert len(halved) <= 1


def test_what_the_report_shows_makes_no_other_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.key(config_of(tmp_path)) == store.key(config_of(tmp_path, report={"pairs": 0}))
