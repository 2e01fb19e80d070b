"""Terms, their sum, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import fake, fake_engine
from pydantic import ValidationError

from reward_distiller.answers import answer_format
from reward_distiller.config import Annotation, Labels, RewardTerm
from reward_distiller.construct.pseudo_rewards import Labeler
from reward_distiller.construct.scoring import Scoring
from reward_distiller.errors import ConfigError, RewardError
from reward_distiller.recipes.labeling import labels_term
from reward_distiller.rl.reward import Part, PolicyView, Reward, build_reward
from reward_distiller.rl.terms import NOTHING, Opened, Sample, repetition, truth_term
from reward_distiller.teacher.prompts import Templates


def sample(text: str, prompt: str = "p", tokens: int = 5, **row: Any) -> Sample:
    return Sample(({"role": "user", "content": prompt},), text, tokens, True, row)


def reward_of(limit: int = 100, **terms: dict[str, Any]) -> Reward:
    return build_reward({name: RewardTerm(**term) for name, term in terms.items()}, limit, NOTHING)


def fixed(values: dict[str, float], model: Any = None, **settings: Any) -> Part:
    return Part(lambda samples: [values[s.response] for s in samples], RewardTerm(length=1.0, **settings), model)


def rule_file(folder: Path, body: str) -> str:
    file = folder / "rule.py"
    file.write_text(body)
    return f"{file}:rule"


def test_terms_of_the_response_s_form() -> None:
    reward = reward_of(
        pattern={"pattern": r"answer: \d+"},
        overlong={"overlong": 20},
        length={"length": 50.0, "weight": 2.0},
        repetition={"repetition": 1},
    )
    texts = {"answer: 12": 80, "so, answer: 12": 90, "a a a b": 120}
    scored = reward([sample(text, tokens=tokens) for text, tokens in texts.items()])
    assert scored.terms["pattern"] == [1.0, 0.0, 0.0]
    assert scored.terms["overlong"] == [0.0, -0.5, -1.0]
    assert scored.terms["length"] == [-1.6, -1.8, -2.4]
    assert scored.terms["repetition"] == [0.0, 0.0, -0.5]
    assert scored.total == pytest.approx([1 - 3.2, -0.5 - 3.6, -1 - 4.8 - 0.5])


def labels_of(asked: Any = None, **settings: Any) -> Opened:
    """Where a config's labels are by pattern: the word behind "so"."""
    answers = {"format": "pattern", "pattern": r"so (\w+)"}
    given = Labels(**{"answers": answers, "consensus": "given", **settings})
    form = answer_format("pattern", pattern=answers["pattern"])
    return Opened(NOTHING.model, lambda labels: labels_term(Labeler(given, form, asked)), NOTHING.truth)


GIVEN = RewardTerm.model_validate({"labels": {"consensus": "given"}})


def test_the_pseudo_reward_itself_is_a_term() -> None:
    reward = build_reward({"labels": GIVEN}, 100, labels_of())
    scored = reward([sample(text, consensus="so FOUR") for text in ("well, so four", "so five", "four")])
    assert scored.total == [1.0, 0.0, 0.0]
    with pytest.raises(RewardError, match="'consensus'"):
        reward([sample("so four")])
    assert reward.of_any_prompt() is None  # the rows of other prompts have no consensus


def test_a_response_that_a_judge_cannot_score_has_no_reward(tmp_path: Path) -> None:
    """Nothing stands in for it: the training stops, and goes on from its checkpoint when the judge answers again."""
    with fake_engine(tmp_path, lambda r: "8" if "good" in r["messages"][0]["content"] else "hm") as (engine, _):
        judge = Scoring(fake("judge", max_asks=1), Templates(None), engine, Annotation())
        reward = build_reward({"labels": GIVEN}, 100, labels_of(judge, judge=fake("judge")))
        assert reward([sample("good", open_ended=True)]).total == [pytest.approx(7 / 9)]
        with pytest.raises(RewardError, match="quarantined 1"):
            reward([sample("good", open_ended=True), sample("bad", open_ended=True)])


def test_the_truth_is_a_term_and_says_right_or_wrong() -> None:
    opened = Opened(NOTHING.model, NOTHING.labels, lambda: truth_term(lambda prompt, text: len(text) / 4))
    reward = build_reward({"truth": RewardTerm(truth=True)}, 100, opened)
    assert reward([sample("four"), sample("for")]).total == [1.0, 0.0]


def test_no_vote_is_held_while_training() -> None:
    with pytest.raises(ValueError, match="consensus: given"):
        RewardTerm.model_validate({"labels": {}})


def test_overlong_needs_room_before_it() -> None:
    with pytest.raises(ConfigError, match="max_response_length=100"):
        reward_of(overlong={"overlong": 100})


def test_repetition_counts_n_grams_seen_before() -> None:
    assert repetition("a b c d e") == 0.0
    assert repetition("") == 0.0
    assert repetition("a b c d a b c d", 4) == pytest.approx(1 / 5)
    assert repetition("x " * 50, 4) == pytest.approx(1 - 1 / 47)


def test_a_rule_sees_prompt_responses_and_row(tmp_path: Path) -> None:
    spec = rule_file(
        tmp_path,
        "def rule(prompt, responses, row):\n"
        "    return [float(row['answer'] in text) + len(prompt[-1]['content']) for text in responses]\n",
    )
    reward = reward_of(rule={"function": spec})
    samples = [sample("it is 7", "ab", answer="7"), sample("6", "ab", answer="7"), sample("8", "abc", answer="8")]
    assert reward(samples).total == [3.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def rule(p, r, row): return [1.0]", "1 values for 2 responses"),
        ("def rule(p, r, row): return [1.0, None]", "gave None"),
        ("def rule(p, r, row): return [1.0, float('nan')]", "gave nan"),
        ("def rule(p, r, row): return [True, 1.0]", "gave True"),
        ("def rule(p, r, row): return ['1', 1.0]", "gave '1'"),
        ("def rule(p, r, row): raise ValueError('hm')", "ValueError: hm"),
    ],
)
def test_a_rule_that_gives_no_rewards_stops_the_training(tmp_path: Path, body: str, message: str) -> None:
    reward = reward_of(rule={"function": rule_file(tmp_path, body)})
    with pytest.raises(RewardError, match=message):
        reward([sample("a"), sample("b")])


@pytest.mark.parametrize("spec", ["rule", "nowhere.py:rule", "json:nothing", "no_such_module:f", "json:__doc__", ":f"])
def test_a_rule_that_is_not_there(spec: str) -> None:
    with pytest.raises(ConfigError, match="rule"):
        reward_of(rule={"function": spec})


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(ConfigError, match="no regular expression"):
        reward_of(form={"pattern": "("})


def test_centres_and_scales() -> None:
    values = {"a": 1.0, "b": 3.0, "c": 10.0, "d": 10.0}
    samples = [sample("a", "p"), sample("b", "p"), sample("c", "q"), sample("d", "q")]

    def total(**settings: Any) -> list[float]:
        return Reward({"t": fixed(values, SimpleNamespace(mean=4.0, std=2.0), **settings)})(samples).total

    assert total(center="group") == [-1.0, 1.0, 0.0, 0.0]
    assert total(center="group", scale="group") == [-1.0, 1.0, 0.0, 0.0]  # equal rewards are not blown up
    assert total(center="batch") == [-5.0, -3.0, 4.0, 4.0]
    assert total(weight=-2.0) == [-2.0, -6.0, -20.0, -20.0]
    scaled = total(center="batch", scale="batch")
    assert sum(v * v for v in scaled) / 4 == pytest.approx(1.0)
    settings = RewardTerm(model="m", center="recorded", scale="recorded")
    recorded = Part(fixed(values).term, settings, SimpleNamespace(mean=4.0, std=2.0))
    assert Reward({"t": recorded})(samples).total == [-1.5, -0.5, 3.0, 3.0]


def test_the_terms_are_told_as_they_were() -> None:
    scored = Reward({"t": fixed({"a": 1.0, "b": 3.0}, weight=5.0, center="batch")})([sample("a"), sample("b")])
    assert scored.terms["t"] == [1.0, 3.0]
    assert scored.of("total") == scored.total == [-5.0, 5.0]


def test_recorded_needs_a_model_that_has_it() -> None:
    with pytest.raises(ValidationError, match="only a reward model in this process"):
        RewardTerm(url="http://x", center="recorded")
    bare = Part(fixed({"a": 1.0}).term, RewardTerm(model="m", center="recorded"), SimpleNamespace(mean=None, std=None))
    with pytest.raises(ConfigError, match="mean and std"):
        Reward({"t": bare})([sample("a")])


@pytest.mark.parametrize("sources", [{}, {"model": "a", "url": "http://x"}, {"pattern": "a", "length": 1.0}])
def test_a_term_names_one_source(sources: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="name exactly one"):
        RewardTerm(**sources)


def ensemble(tmp_path: Path, choose: str) -> Reward:
    file = tmp_path / "members.py"
    file.write_text(
        "def long(p, r, row): return [float(len(t)) for t in r]\n"
        "def a(p, r, row): return [float(t.count('a')) for t in r]\n"
    )
    members = {"long": {"function": f"{file}:long"}, "a": {"function": f"{file}:a"}}
    return reward_of(both={"ensemble": {"members": members, "choose": choose}})


def test_ensembles_take_mean_or_minimum(tmp_path: Path) -> None:
    samples = [sample("aab"), sample("bbbb")]
    assert ensemble(tmp_path, "mean")(samples).total == [2.5, 2.0]
    assert ensemble(tmp_path, "minimum")(samples).total == [2.0, 0.0]
    assert ensemble(tmp_path, "bandit")(samples).total == [2.5, 2.0]  # nobody is training


def view(log_p: list[float]) -> PolicyView:
    return PolicyView(context=lambda: [1.0, 0.0], log_p_per_token=lambda: log_p)


def test_a_bandit_comes_to_the_model_whose_preferences_the_policy_can_follow(tmp_path: Path) -> None:
    """`long` likes the second response, which the policy finds improbable; `a` likes the first."""
    reward = ensemble(tmp_path, "bandit")
    samples = [sample("aab"), sample("bbbb")]
    bandit = reward.parts["both"].bandit
    assert bandit is not None
    for _ in range(60):
        reward(samples, view([-1.0, -6.0]))
    late = [arm for _, arm, _ in bandit.history[-30:]]
    assert {arm for _, arm, _ in bandit.history} == {0, 1}  # both were tried
    assert late.count(1) > 25


def test_a_bandit_s_memory_comes_back(tmp_path: Path) -> None:
    first = ensemble(tmp_path, "bandit")
    samples = [sample("aab"), sample("bbbb")]
    for at in range(10):
        first(samples, view([-1.0 - at, -6.0 + at]))
    again = ensemble(tmp_path, "bandit")
    again.restore(json.loads(json.dumps(first.state)))
    for _ in range(10):
        assert first(samples, view([-2.0, -3.0])).total == again(samples, view([-2.0, -3.0])).total
    assert first.state == again.state
