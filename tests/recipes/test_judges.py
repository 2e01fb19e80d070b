"""Generative judges as scorers: the testbed's teacher through the real ledger, and a judge that is a function."""

from __future__ import annotations

import json
import re

import pytest
from helpers import FunctionTransport

from reward_distiller.config import World as WorldSettings
from reward_distiller.errors import CallsFailed, ConfigError
from reward_distiller.evaluate.answers import Comparisons, NoAnswer, Rewards, outcome
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.recipes.judges import JudgeSettings, judge_scorer
from reward_distiller.records import Prompt
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.teacher.http_client import Retry
from reward_distiller.testbed.benchmark import style_items
from reward_distiller.testbed.language import World
from reward_distiller.testbed.parts import TestbedParts as Parts

WORLD = World(0)
# Four examples of RM-Bench's form, three right responses before three wrong ones, and a tie.
EXAMPLES = [
    Example(f"e{n}", item.prompt, (*item.chosen, *item.rejected), right=3)
    for n, item in enumerate(style_items(WORLD, 4, 0))
]
EXAMPLES.append(Example("tied", EXAMPLES[0].prompt, EXAMPLES[0].responses[:2], right=2))
PAIR = Example("pair", Prompt.from_text("which ?"), ("good", "bad"))
THREE = Example("three", Prompt.from_text("which of three ?"), ("good", "bad", "ugly"))
QUIET = {"noise": 0.0, "verbosity_bias": 0.0, "position_bias": 0.0, "garble": 0.0}


def parts(**world: float) -> Parts:
    return Parts(WorldSettings(**{**QUIET, **world}), 0)


def ask(ledger, examples=EXAMPLES, *, world=None, spec="teacher@testbed", **settings):
    """The answers, how many calls they took, and the judge."""
    advanced = []
    with judge_scorer(spec, JudgeSettings(**settings), ledger, parts(**(world or {}))) as judge:
        answers = judge.answer(examples, lambda: advanced.append(1))
        assert len(advanced) == sum(len(example.responses) for example in examples)
        return answers, judge.engine.bought, judge


class Fake:
    """Parts whose one endpoint answers by a function."""

    def __init__(self, answer):
        self.transport = FunctionTransport(answer)
        self.transports = {"http://fake/v1": self.transport}

    def chat_model(self, model):
        return model


def ask_fake(folder, answer, examples, *, endpoint=None, **settings):
    fake = Fake(answer)
    chosen = JudgeSettings(endpoint={"max_asks": 2, "retries": 1, **(endpoint or {})}, **settings)
    with judge_scorer("org/m@v1@http://fake/v1", chosen, folder / "ledger.sqlite", fake) as judge:
        judge.engine.first_backoff = 0.001
        return judge.answer(examples, lambda: None), judge, fake.transport


def shown(request) -> list[str]:
    """The responses in a request, in their order."""
    return re.findall(
        r"^<(?:scored|ranked|gram|judgelrm)_response\S*>\n(.*)\n</", request["messages"][0]["content"], re.M
    )


# -- the testbed's teacher ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reasoning"),
    [(n, r) for n in ("pairwise_scores", "pairwise_ranking", "pointwise") for r in (False, True)]
    + [("gram", False), ("judgelrm", False)],
)
def test_a_judge_without_noise_prefers_what_is_right(tmp_path, monkeypatch, name, reasoning):
    monkeypatch.setattr("reward_distiller.testbed.teachers.Levenshtein.normalized_similarity", lambda a, b: 0.0)
    answers, bought, judge = ask(tmp_path / "l.sqlite", EXAMPLES[:4], format=name, reasoning=reasoning)
    for example, answer in zip(EXAMPLES, answers, strict=False):
        assert isinstance(answer, Rewards if name == "pointwise" else Comparisons)
        assert outcome(example, answer).wins.all()
    assert bought == 4 * (6 if name == "pointwise" else 18)
    assert judge.quarantine == []


def test_both_orders_of_every_comparison_are_kept_apart(tmp_path):
    answers, bought, _ = ask(tmp_path / "l.sqlite")
    for example, answer in zip(EXAMPLES, answers, strict=True):
        orders = [order for i, j in example.comparisons for order in ((i, j), (j, i))]
        assert [(i, j) for i, j, _ in answer.margins] == orders
    assert bought == 4 * 18 + 2


def test_a_second_run_is_answered_by_the_ledger(tmp_path):
    first, bought, _ = ask(tmp_path / "l.sqlite", world={"noise": 0.8}, reasoning=True)
    again, further, judge = ask(tmp_path / "l.sqlite", world={"noise": 0.8}, reasoning=True)
    assert (again, further) == (first, 0)
    with judge_scorer("teacher@testbed", judge.settings, tmp_path / "l.sqlite", parts(noise=0.8)) as third:
        [cost] = third.cost()  # also of what it was not asked this time
    assert cost["calls"] == bought > 0
    assert cost["output_tokens"] > bought
    assert (cost["step"], cost["model"], cost["money"]) == ("evaluate: judge", "teacher", None)
    _, other, _ = ask(tmp_path / "l.sqlite", world={"noise": 0.8})  # another question
    assert other == bought


def close_pairs(count: int) -> list[Example]:
    """Equally good responses of half the points, so that the scale has room for a bias."""
    found = []
    for n, item in enumerate(style_items(WORLD, 8 * count, 1)):
        if WORLD.quality(item.prompt.messages[0].content, item.rejected[0]) == 0.5:
            found.append(Example(f"close{n}", item.prompt, item.rejected[:2], right=1))
    return found[:count]


def test_a_bias_for_the_first_place_shows_as_disagreement_between_the_orders(tmp_path):
    examples = close_pairs(6)
    assert len(examples) == 6
    fair, _, _ = ask(tmp_path / "fair.sqlite", examples)
    assert {margin for answer in fair for _, _, margin in answer.margins} == {0}
    for name in ("pairwise_scores", "pairwise_ranking", "gram", "judgelrm"):
        biased, _, _ = ask(tmp_path / f"{name}.sqlite", examples, world={"position_bias": 2.0}, format=name)
        for example, answer in zip(examples, biased, strict=True):
            (i, j, one), (k, l, other) = answer.margins
            assert (i, j) == (l, k)
            assert one > 0
            assert other > 0  # whoever is first is better
            assert outcome(example, answer).margin_NN[0, 1] == 0  # and the mean of both takes the bias out


def test_a_bias_for_the_first_place_shows_at_the_teachers_own_settings(tmp_path):
    usual = {"noise": 0.8, "position_bias": 0.3}
    answers, _, _ = ask(tmp_path / "l.sqlite", close_pairs(40), world=usual)
    leads = [margin for answer in answers for _, _, margin in answer.margins]
    assert 0 < sum(leads) / len(leads) < 0.8
    disagree = [a.margins[0][2] * a.margins[1][2] > 0 for a in answers]
    assert 0.1 < sum(disagree) / len(disagree) < 0.9


def test_one_order_is_drawn_without_regard_to_which_response_is_right(tmp_path):
    examples = close_pairs(40)
    answers, bought, _ = ask(tmp_path / "l.sqlite", examples, both_orders=False)
    firsts = [margin[0] for answer in answers for margin in answer.margins]
    assert len(firsts) == bought == 40
    assert 10 < sum(firsts) < 30
    turned = [Example(e.id, e.prompt, e.responses[::-1], right=1) for e in examples]
    others, further, _ = ask(tmp_path / "l.sqlite", turned, both_orders=False)
    assert [1 - margin[0] for answer in others for margin in answer.margins] == firsts
    assert further == 0


def test_garbled_answers_are_asked_for_again_and_then_quarantined(tmp_path):
    answers, bought, judge = ask(tmp_path / "l.sqlite", EXAMPLES[:1], world={"garble": 1.0})
    assert answers == [NoAnswer("unusable answer: not two scores separated by a space")]
    assert bought == 3 * 18
    assert len(judge.quarantine) == 18
    row = judge.quarantine[0]
    assert set(row) == {"step", "record", "model", "reason", "answers"}
    assert (row["record"], row["model"], len(row["answers"])) == ("e0:0:3", "teacher", 3)
    assert "merits" in row["answers"][0]


# -- which verdict belongs to which response ------------------------------------------------------------

GRADES = {"good": 9, "bad": 4, "ugly": 1}


def grade(request) -> str:
    return " ".join(str(GRADES[text]) for text in shown(request))


def test_margins_are_of_the_response_shown_first(tmp_path):
    (answer,), _, transport = ask_fake(tmp_path, grade, [THREE])
    assert answer == Comparisons(((0, 1, 5), (1, 0, -5), (0, 2, 8), (2, 0, -8)))
    assert sorted(map(shown, transport.asked)) == sorted(
        [["good", "bad"], ["bad", "good"], ["good", "ugly"], ["ugly", "good"]]
    )


def test_rewards_are_in_the_order_of_the_responses(tmp_path):
    (answer,), _, _ = ask_fake(tmp_path, grade, [THREE], format="pointwise")
    assert answer == Rewards((9, 4, 1))


def test_an_order_without_a_verdict_is_left_out_and_the_other_stands(tmp_path):
    (answer,), judge, _ = ask_fake(tmp_path, lambda r: "no" if shown(r) == ["bad", "good"] else grade(r), [THREE])
    assert answer == Comparisons(((0, 1, 5), (0, 2, 8), (2, 0, -8)))
    assert [(row["record"], row["answers"]) for row in judge.quarantine] == [("three:1:0", ("no", "no"))]


def test_one_comparison_without_any_verdict_leaves_the_example_without_an_answer(tmp_path):
    answers, judge, _ = ask_fake(tmp_path, lambda r: "no" if "ugly" in shown(r) else grade(r), [THREE, PAIR])
    assert answers == [
        NoAnswer("unusable answer: not two scores separated by a space"),
        Comparisons(((0, 1, 5), (1, 0, -5))),
    ]
    assert [row["record"] for row in judge.quarantine] == ["three:0:2", "three:2:0"]  # in the order asked


def test_a_response_without_a_score_leaves_the_example_without_an_answer(tmp_path):
    answers, judge, _ = ask_fake(
        tmp_path, lambda r: "no" if shown(r) == ["ugly"] else grade(r), [THREE, PAIR], format="pointwise"
    )
    assert answers == [NoAnswer("unusable answer: not a single score"), Rewards((9, 4))]
    assert [row["record"] for row in judge.quarantine] == ["three:2"]


def test_what_a_server_refuses_has_no_answer_and_the_reason_is_short(tmp_path):
    def answer(request):
        return (
            Refused(f"HTTP 400: {len(str(request))} tokens are too many")
            if "ugly" in shown(request)
            else grade(request)
        )

    answers, judge, _ = ask_fake(tmp_path, answer, [THREE, PAIR])
    assert answers == [NoAnswer("refused: HTTP 400"), Comparisons(((0, 1, 5), (1, 0, -5)))]
    assert judge.quarantine == []


def test_a_server_that_gives_up_is_no_answer_of_the_judge(tmp_path):
    """Such an answer would be kept; asked another time, the server may have one."""
    down = [True]

    def answer(request):
        return Retry("HTTP 503: busy") if down[0] and shown(request) == ["bad", "good"] else grade(request)

    with pytest.raises(CallsFailed, match="three:1:0"):
        ask_fake(tmp_path, answer, [THREE])
    down[0] = False
    (whole,), judge, _ = ask_fake(tmp_path, answer, [THREE])
    assert len(whole.margins) == 4
    assert judge.engine.bought == 1


def test_an_answer_cut_at_max_tokens_is_unusable(tmp_path):
    def cut(request):
        choice = {"message": {"content": "<reasoning>on and on"}, "finish_reason": "length"}
        return json.dumps({"choices": [choice]}).encode()

    (answer,), judge, transport = ask_fake(tmp_path, cut, [PAIR], reasoning=True)
    assert isinstance(answer, NoAnswer)
    assert "max_tokens" in answer.reason
    assert len(judge.quarantine) == 2
    assert {request["max_tokens"] for request in transport.asked} == {4096}


# -- names, settings, identity --------------------------------------------------------------------------


def test_only_the_last_at_splits_and_a_name_may_hold_slashes(tmp_path):
    _, judge, transport = ask_fake(tmp_path, grade, [PAIR])
    assert {request["model"] for request in transport.asked} == {"org/m@v1"}
    assert judge.model.base_url == "http://fake/v1"


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        ("teacher", {}, "MODEL@URL"),
        ("@testbed", {}, "MODEL@URL"),
        ("m@", {}, "base_url"),
        ("m@localhost:8000/v1", {}, "base_url"),
        ("m@testbed", {}, "no model 'm'"),
        ("teacher@testbed", {"format": "listwise"}, "pairwise_ranking"),
        ("teacher@testbed", {"format": "gram", "reasoning": True}, "pointwise"),
        ("teacher@testbed", {"endpoint": {"concurency": 3}}, "concurency"),
        ("teacher@testbed", {"endpoint": {"api_key_env": "NO_SUCH_KEY_IS_SET"}}, "NO_SUCH_KEY_IS_SET"),
        ("teacher@testbed", {"templates": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_work_is_said_before_any_call(tmp_path, spec, settings, said):
    with pytest.raises(ConfigError, match=said), judge_scorer(spec, JudgeSettings(**settings), tmp_path / "l", parts()):
        pass


def identity(tmp_path, spec="m@http://fake/v1", **settings):
    with judge_scorer(spec, JudgeSettings(**settings), tmp_path / "l.sqlite", Fake(grade)) as judge:
        return judge.identity


def test_the_identity_holds_what_is_asked_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    bare = identity(tmp_path)
    keyed = {"api_key_env": "JUDGE_KEY", "headers_env": {"X-Team": "JUDGE_KEY"}, "headers": {"X-Who": "me"}}
    assert identity(tmp_path, endpoint=keyed) == bare
    assert identity(tmp_path, "m@http://elsewhere/v1") == bare
    assert "secret" not in json.dumps(bare)
    assert bare["judge"] == {"model": "m", "temperature": 0.0, "top_p": 1.0, "max_tokens": 1024}


def test_the_identity_tells_apart_all_that_changes_an_answer(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "judge_pairwise_scores.jinja").write_text(
        "{{ response_1 }} or {{ response_2 }} ? two grades{% if reasoning %} and why{% endif %}"
    )
    different = [
        identity(tmp_path),
        identity(tmp_path, "n@http://fake/v1"),
        identity(tmp_path, reasoning=True),
        identity(tmp_path, both_orders=False),
        identity(tmp_path, templates=str(tmp_path / "own")),
        identity(tmp_path, endpoint={"sampling": {"temperature": 0.5}}),
        identity(tmp_path, endpoint={"chat_template_kwargs": {"enable_thinking": False}}),
        identity(tmp_path, endpoint={"max_asks": 1}),
        *(identity(tmp_path, format=name) for name in ("pairwise_ranking", "pointwise", "gram", "judgelrm")),
    ]
    assert len({json.dumps(item, sort_keys=True) for item in different}) == len(different)


def test_the_testbeds_settings_are_part_of_the_identity(tmp_path):
    _, _, one = ask(tmp_path / "a.sqlite", EXAMPLES[4:])
    _, _, other = ask(tmp_path / "a.sqlite", EXAMPLES[4:], world={"noise": 1.0})
    assert one.identity != other.identity


def test_orders_do_not_matter_where_one_response_is_shown(tmp_path):
    assert identity(tmp_path, format="pointwise", both_orders=False) == identity(tmp_path, format="pointwise")
