"""Initial preference annotation: the teacher scores two responses side by side (paper, section 3.1, prompt D.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.records import Pair, Prompt, Response
from reward_distiller.teacher.engine import Answer, Engine, Question
from reward_distiller.teacher.parsing import parse_pair_scores
from reward_distiller.teacher.prompts import Templates


def scoring_question(
    identity: str, prompt: Prompt, first: str, second: str, templates: Templates
) -> Question[tuple[float, float]]:
    """Prompt D.1 for two responses in the order given."""
    text, _ = templates.render("pairwise_scores", prompt, response_1=first, response_2=second)
    return Question(identity, [{"role": "user", "content": text}], parse_pair_scores)


def annotate(
    drawn: Sequence[tuple[Prompt, Response, Response]], teacher: ChatModel, templates: Templates, engine: Engine
) -> tuple[list[Pair], Balance]:
    """Unlabeled scenario: the response with the higher score is the chosen one; equal scores make no pair."""
    questions = [scoring_question(p.id, p, a.text, b.text, templates) for p, a, b in drawn]
    outcomes = engine.ask(teacher, "annotate", questions)
    pairs = []
    balance = Balance("annotate", "pairs", len(drawn))
    for prompt, first, second in drawn:
        outcome = outcomes[prompt.id]
        if not isinstance(outcome, Answer):
            balance.lose_to(outcome, prompt.id, teacher.model)
            continue
        scores = outcome.value
        if scores[0] == scores[1]:
            balance.lose("tied", "equal scores", prompt.id)
            continue
        chosen, rejected = (first, second) if scores[0] > scores[1] else (second, first)
        provenance = {
            "teacher": teacher.model,
            "chosen_model": chosen.model,
            "rejected_model": rejected.model,
            "chosen_shown": 1 if chosen is first else 2,
        }
        pairs.append(
            Pair.of(
                prompt,
                chosen.text,
                rejected.text,
                "sampled",
                chosen_score=max(scores),
                rejected_score=min(scores),
                provenance=provenance,
            )
        )
        balance.keep()
    return pairs, balance.check()


def agree(
    labeled: Sequence[Pair], teacher: ChatModel | None, templates: Templates, engine: Engine | None, seed: int
) -> tuple[list[Pair], Balance]:
    """Labeled scenario (section 4.1): keep pairs whose label the teacher's scores confirm.

    Without a teacher the scores are the recorded ones. With one, the responses are shown in random order.
    """
    scores: dict[str, tuple[float, float]] = {}
    shown: dict[str, int] = {}
    balance = Balance("agree", "pairs", len(labeled))
    if teacher is not None and engine is not None:
        questions = label_questions(labeled, templates, seed)
        outcomes = engine.ask(teacher, "annotate", questions)
        for pair in labeled:
            outcome = outcomes[pair.id]
            if isinstance(outcome, Answer):
                shown[pair.id] = 1 if _chosen_first(pair, seed) else 2
                scores[pair.id] = outcome.value if shown[pair.id] == 1 else outcome.value[::-1]
            else:
                balance.lose_to(outcome, pair.id, teacher.model)
    else:
        for pair in labeled:
            assert pair.chosen_score is not None
            assert pair.rejected_score is not None
            scores[pair.id] = (pair.chosen_score, pair.rejected_score)
    kept = []
    for pair in labeled:
        if pair.id not in scores:
            continue
        chosen_score, rejected_score = scores[pair.id]
        if chosen_score == rejected_score:
            balance.lose("tied", "equal scores", pair.id)
        elif chosen_score < rejected_score:
            balance.lose("disagreed", "the teacher prefers the rejected response", pair.id)
        else:
            who: dict[str, str | int] = {"teacher": teacher.model if teacher else "recorded"}
            who |= {"chosen_shown": shown[pair.id]} if pair.id in shown else {}
            update = {"chosen_score": chosen_score, "rejected_score": rejected_score}
            kept.append(pair.model_copy(update=update | {"provenance": {**pair.provenance, **who}}))
            balance.keep()
    return kept, balance.check()


def label_questions(labeled: Sequence[Pair], templates: Templates, seed: int) -> list[Question[tuple[float, float]]]:
    questions = []
    for pair in labeled:
        first, second = (pair.chosen, pair.rejected) if _chosen_first(pair, seed) else (pair.rejected, pair.chosen)
        questions.append(scoring_question(pair.id, pair.prompt, first, second, templates))
    return questions


def _chosen_first(pair: Pair, seed: int) -> bool:
    return random.Random(f"order:{seed}:{pair.id}").random() < 0.5
