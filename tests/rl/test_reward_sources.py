"""A reward model as a term: in this process, and behind a server, with the same rewards."""

from __future__ import annotations

import pytest
import tiny
from running import running

from reward_distiller.config import RewardSource, RewardTerm
from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rl.reward import build_reward
from reward_distiller.rl.terms import NOTHING, Opened, Sample

SAMPLES = [
    Sample(({"role": "user", "content": f"question {number}"},), text, len(text))
    for number in range(3)
    for text in ("yes", "no, never", "")
]


@pytest.fixture(scope="module")
def model() -> RewardModel:
    chat = tiny.chat(pad_token="<pad>")
    return RewardModel(build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0).classifier, chat)


def only(model: RewardModel) -> Opened:
    return Opened(lambda source: model, NOTHING.labels, NOTHING.truth)


def test_a_served_model_gives_the_rewards_of_the_one_here(model: RewardModel) -> None:
    with running(model) as (url, _):
        terms = {
            "here": RewardTerm(model="m"),
            "served": RewardTerm(url=url),
            "vllm": RewardTerm(url=f"{url}/classify"),
        }
        scored = build_reward(terms, 10, only(model))(SAMPLES)
    offline = [model.score(s.messages, [s.response])[0] for s in SAMPLES]
    for name in terms:
        assert scored.terms[name] == pytest.approx(offline, abs=1e-5)
    assert scored.total == pytest.approx([3 * value for value in offline], abs=1e-4)


def test_a_server_that_is_gone_stops_the_training(model: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(model) as (url, _):
        reward = build_reward({"served": RewardTerm(url=f"{url}/nowhere")}, 10, only(model))
        with pytest.raises(EndpointError, match="404"):
            reward(SAMPLES)


def test_recorded_statistics_are_the_model_s(model: RewardModel) -> None:
    model.mean, model.std = 2.0, 4.0
    terms = {"rm": RewardTerm(model="m", center="recorded", scale="recorded")}
    scored = build_reward(terms, 10, only(model))(SAMPLES)
    assert scored.total == pytest.approx([(value - 2.0) / 4.0 for value in scored.terms["rm"]])


def test_a_token_without_a_url() -> None:
    with pytest.raises(ValueError, match="token_env goes with url"):
        RewardSource(model="m", token_env="X")


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_TOKEN"):
        build_reward({"rm": RewardTerm(url="http://x", token_env="NO_SUCH_TOKEN")}, 10, NOTHING)
