"""What a reward model that was trained on votes adds to the vote: real responses of ten models, a tiny reward model.

    python -m bench.vote_against_reward_model [--data gsm8k mmlu_pro] [--student MODEL] [--output FILE] [--quick]

$REWARD_DISTILLER_DATA holds what `bench.answer_extraction` reads. Questions are cut into three parts; the responses to
two of them, labeled by their majority vote, train a reward model by a plain run config (`method: bce`, `scenario:
responses`), which then judges the third. So every question is judged by a model that saw neither it nor a gold answer;
gold is read for the accuracies alone. Without --student, student and tokenizer are made on the spot, from random
weights and the training responses: what a pretrained one would learn is not known here. Intervals resample questions,
not trainings.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from reward_distiller.answers import AnswerFormat, Vote, answer_format, vote
from reward_distiller.config import fill_data_folder, parse_run
from reward_distiller.evaluate.statistics import Figure, bootstrap_difference, percent
from reward_distiller.files import read_rows, write_json, write_rows
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.recipes.whole_runs import do_run
from reward_distiller.testbed.parts import TestbedParts

PARTS = 3
VOCABULARY = 4096
MAX_LENGTH = 1024  # tokens; a longer response is neither trained on nor picked
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRAINING = {
    "epochs": 1,
    "learning_rate": 1e-3,
    "pairs_per_step": 64,
    "max_length": MAX_LENGTH,
    "threads": 1,
    "device": "cpu",
}
LETTERS = "ABCDEFGHIJ"
TIE_BREAKERS = {
    "chance": "vote",
    "the reward model": "vote, ties broken by the reward model",
    "authors": "vote, ties broken by authors",
}


@dataclass(frozen=True)
class Sample:
    """A response: who wrote it, its final answer, and whether that is the gold one."""

    model: str
    text: str
    answer: str | None
    right: bool


@dataclass(frozen=True)
class Question:
    key: str
    prompt: str
    samples: tuple[Sample, ...]
    format: AnswerFormat = field(repr=False)

    @cached_property
    def vote(self) -> Vote:
        return vote([s.answer for s in self.samples], self.format.same, 0.0)

    @cached_property
    def groups(self) -> list[list[int]]:
        """Places of samples with the same answer; those without one are in no group."""
        found: list[list[int]] = []
        for place, sample in enumerate(self.samples):
            if sample.answer is None:
                continue
            for group in found:
                if self.format.same(self.samples[group[0]].answer or "", sample.answer):
                    group.append(place)
                    break
            else:
                found.append([place])
        return found

    @property
    def first_places(self) -> list[list[int]]:
        most = max(map(len, self.groups), default=0)
        return [group for group in self.groups if len(group) == most]

    def agrees(self, sample: Sample) -> bool:
        """With the vote, which there is."""
        return sample.answer is not None and self.format.same(sample.answer, self.vote.answer or "")

    def right(self, group: Sequence[int]) -> float:
        return float(self.samples[group[0]].right)


# -- data -----------------------------------------------------------------------------------------------


def gsm8k(folder: Path) -> list[Question]:
    number = answer_format("number")
    rows = (row for _, row in read_rows(folder / "gsm8k/test_model_responses.jsonl.gz"))
    return [_question(number, str(row["idx"]), row["question"], row["gold"], row["responses"]) for row in rows]


def mmlu_pro(folder: Path) -> list[Question]:
    choice = answer_format("choice")
    asked = {row["question_id"]: row for _, row in read_rows(folder / "mmlu_pro/questions.jsonl.gz")}
    found = []
    for _, row in read_rows(folder / "mmlu_pro/model_responses_700q.jsonl.gz"):
        question = asked[row["question_id"]]
        options = [f"{letter}. {text}" for letter, text in zip(LETTERS, question["options"], strict=False)]
        prompt = "\n".join([question["question"], *options])
        found.append(_question(choice, str(row["question_id"]), prompt, row["answer"], row["responses"]))
    return found


def _question(format_: AnswerFormat, key: str, prompt: str, gold: str, responses: dict[str, Any]) -> Question:
    wanted = format_.extract(f"The answer is {gold}")
    if wanted is None:
        raise ValueError(f"question {key}: the gold answer {gold!r} is none in its format")
    samples = []
    for model, said in responses.items():
        answer = format_.extract(said["text"])
        samples.append(Sample(model, said["text"], answer, answer is not None and format_.same(answer, wanted)))
    return Question(key, prompt, tuple(samples), format_)


DATA: dict[str, Callable[[Path], list[Question]]] = {"gsm8k": gsm8k, "mmlu_pro": mmlu_pro}


def parts(questions: Sequence[Question], count: int, seed: int) -> list[list[Question]]:
    """Disjoint, of about the same size, in an order that the seed draws."""
    drawn = list(questions)
    random.Random(f"parts:{seed}").shuffle(drawn)
    return [drawn[at::count] for at in range(count)]


def labeled(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Rows as the recipe reads them: 1 for what the vote says, 0 for the rest; a question without a majority has none.

    Gold is not read.
    """
    return [
        {"prompt": q.prompt, "response": s.text, "reward": float(q.agrees(s)), "sampler": s.model}
        for q in questions
        if q.vote.answer is not None
        for s in q.samples
        if s.text.strip()
    ]


# -- the reward model -----------------------------------------------------------------------------------


def make_student(folder: Path, rows: Sequence[dict[str, Any]], hidden: int, layers: int, seed: int) -> None:
    """A Qwen3 with random weights, and a tokenizer of the rows' texts with one token for each digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    texts = [*dict.fromkeys(row["prompt"] for row in rows), *(row["response"] for row in rows)]
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "pad_token": "<|pad|>", "eos_token": "<|im_end|>"}
    )
    wrapped.chat_template = CHATML
    transformers.set_seed(seed)
    heads = hidden // 32
    model = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=len(wrapped),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=32,
            intermediate_size=3 * hidden,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            pad_token_id=wrapped.pad_token_id,
            eos_token_id=wrapped.eos_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)


def settings(folder: Path, student: str, epochs: int, seed: int) -> dict[str, Any]:
    """The run config."""
    return {
        "recipe": "reward_model",
        "method": "bce",
        "scenario": "responses",
        "seed": seed,
        "output": str(folder / "run"),
        "responses": [{"path": str(folder / "responses.jsonl")}],
        "student": {"model": student},
        "training": {**TRAINING, "epochs": epochs},
    }


def train(folder: Path, questions: Sequence[Question], given: argparse.Namespace, seed: int) -> RewardModel:
    rows = labeled(questions)
    write_rows(folder / "responses.jsonl", _once(rows))
    if given.student is None:
        make_student(folder / "student", rows, given.hidden, given.layers, seed)
    config = parse_run(settings(folder, given.student or str(folder / "student"), given.epochs, seed))
    do_run(config, TestbedParts(config.testbed, seed))
    return RewardModel.from_pretrained(str(folder / "run/model"), device="cpu", max_length=MAX_LENGTH)


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A response that two models wrote word by word stands once: the recipe would name it as a duplicate."""
    return list({(row["prompt"], row["response"]): row for row in rows}.values())


def rewards(model: RewardModel, questions: Sequence[Question]) -> list[list[float]]:
    """Of every sample; -inf for one that is too long to be read, or empty."""
    found, rows = [[-math.inf] * len(q.samples) for q in questions], []
    places: list[tuple[int, list[int]]] = []
    for at, question in enumerate(questions):
        kept = [i for i, s in enumerate(question.samples) if s.text.strip() and model.fits(question.prompt, [s.text])]
        places.append((at, kept))
        rows.append((question.prompt, [question.samples[i].text for i in kept]))
    for (at, kept), values in zip(places, model.score_rows(rows), strict=True):
        for place, value in zip(kept, values, strict=True):
            found[at][place] = value
    return found


# -- who is picked: the chance that it is right ---------------------------------------------------------


def highest(question: Question, values: Sequence[float]) -> float:
    """Of the sample with the highest value; equal ones with equal chance."""
    best = max(values)
    return float(np.mean([s.right for s, value in zip(question.samples, values, strict=True) if value == best]))


def heaviest(question: Question, weights: Sequence[float], groups: Sequence[list[int]] | None = None) -> float:
    """Of the answer with the largest sum of weights; equal ones with equal chance. Without any answer it is wrong."""
    groups = question.groups if groups is None else groups
    sums = [math.fsum(weights[i] for i in group) for group in groups]
    best = [group for group, total in zip(groups, sums, strict=True) if total == max(sums)]
    return float(np.mean([question.right(group) for group in best])) if best else 0.0


def chance(reward: float) -> float:
    """σ(r), without overflow."""
    return 1 / (1 + math.exp(-reward)) if reward > -700 else 0.0


def agreement(questions: Sequence[Question]) -> dict[str, float]:
    """How often each model has the vote's answer, where there is one: what votes alone say of who is good."""
    voted = [q for q in questions if q.vote.answer is not None]
    counts = Counter(s.model for q in voted for s in q.samples)
    agrees = Counter(s.model for q in voted for s in q.samples if q.agrees(s))
    return {model: agrees[model] / counts[model] for model in counts}


@dataclass(frozen=True)
class Judged:
    """A question of the part that a reward model did not see."""

    question: Question
    rewards: list[float]
    trust: dict[str, float]  # each model's agreement with the vote on what the reward model saw
    liked: dict[str, float]  # each model's mean reward on what it did not see

    @property
    def apart(self) -> list[float]:
        """Rewards with their author's mean taken off: who wrote a response then says nothing."""
        return [r - self.liked[s.model] for r, s in zip(self.rewards, self.question.samples, strict=True)]

    def accuracies(self) -> dict[str, float]:
        q = self.question
        chances = [chance(reward) for reward in self.rewards]
        trust = [self.trust[s.model] for s in q.samples]
        length = [float(len(s.text)) for s in q.samples]
        return {
            "single response": float(np.mean([s.right for s in q.samples])),
            "shortest": highest(q, [-n for n in length]),
            "longest": highest(q, length),
            "best of N": highest(q, self.rewards),
            "best of N, author's mean taken off": highest(q, self.apart),
            "best author by votes": highest(q, trust),
            "vote": heaviest(q, [1.0] * len(q.samples)),
            "vote, weighted by the reward model": heaviest(q, chances),
            "vote, weighted by its author's agreement": heaviest(q, trust),
            "vote, ties broken by the reward model": heaviest(q, chances, q.first_places),
            "vote, ties broken by authors": heaviest(q, trust, q.first_places),
            "oracle": float(any(s.right for s in q.samples)),
        }

    @property
    def is_tie(self) -> bool:
        """With a right answer in first place."""
        return self.question.vote.reason == "tie" and any(map(self.question.right, self.question.first_places))


def mean_rewards(questions: Sequence[Question], rewards: Sequence[Sequence[float]]) -> dict[str, float]:
    """Of each model, over what could be read."""
    found: dict[str, list[float]] = {}
    for question, row in zip(questions, rewards, strict=True):
        for sample, reward in zip(question.samples, row, strict=True):
            found.setdefault(sample.model, []).extend([reward] if reward > -math.inf else [])
    return {model: float(np.mean(values)) if values else 0.0 for model, values in found.items()}


def ranks_right(judged: Sequence[Judged], *, same_author: bool = False, apart: bool = False) -> float:
    """How often a right response has a higher reward than a wrong one of the same question, or of the same author.

    The first is what best of N needs. The second leaves nothing to who wrote it, and all to which questions are hard;
    with `apart` the first leaves nothing to either. Equal rewards count half.
    """
    groups: dict[str, list[tuple[float, bool]]] = {}
    for at, j in enumerate(judged):
        for sample, reward in zip(j.question.samples, j.apart if apart else j.rewards, strict=True):
            if reward > -math.inf:
                groups.setdefault(sample.model if same_author else str(at), []).append((reward, sample.right))
    won = total = 0.0
    for group in groups.values():
        good, bad = (np.array([r for r, right in group if right is is_right]) for is_right in (True, False))
        won += float((good[:, None] > bad).sum() + 0.5 * (good[:, None] == bad).sum())
        total += len(good) * len(bad)
    return won / total if total else math.nan


def figures(judged: Sequence[Judged], by_part: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """Accuracies in percent, each with its difference to the vote; ties; and what the rewards know."""
    accuracies = [j.accuracies() for j in judged]
    column = {name: [row[name] for row in accuracies] for name in accuracies[0]}
    ties = [j for j in judged if j.is_tie]
    broken = [j.accuracies() for j in ties]
    breakers = TIE_BREAKERS if ties else {}
    picks = [j.question.samples[int(np.argmax(j.rewards))].model for j in judged]
    best = [max(j.trust, key=lambda model: j.trust[model]) for j in judged]
    return {
        "questions": len(judged),
        "accuracies": {
            name: {"accuracy": percent(values), "to the vote": bootstrap_difference(values, column["vote"])}
            for name, values in column.items()
        },
        "ties": {
            "all": sum(j.question.vote.reason == "tie" for j in judged),
            "with a right answer in first place": len(ties),
            "broken rightly": {who: percent([row[rule] for row in broken]) for who, rule in breakers.items()},
        },
        "ranks right": {
            "within a question": [ranks_right(part) for part in by_part],
            "within a question, author's mean taken off": [ranks_right(part, apart=True) for part in by_part],
            "within an author": [ranks_right(part, same_author=True) for part in by_part],
        },
        "pick is of the best author": float(np.mean([p == b for p, b in zip(picks, best, strict=True)])),
        "picks": dict(Counter(picks).most_common()),
        "too long to read": sum(reward == -math.inf for j in judged for reward in j.rewards),
        "label right": label_accuracy([j.question for j in judged]),
    }


def label_accuracy(questions: Sequence[Question]) -> float:
    """Of the responses to questions with a majority: how many labels say what gold says."""
    right = [q.agrees(s) == s.right for q in questions if q.vote.answer is not None for s in q.samples]
    return float(np.mean(right))


# -- the bench ------------------------------------------------------------------------------------------


def judge(name: str, questions: list[Question], given: argparse.Namespace) -> dict[str, Any]:
    """The figures. A reward model that a run before this one made of the same is not trained again."""
    by_part: list[list[Judged]] = []
    start = time.monotonic()
    cut = parts(questions, PARTS, given.seed)
    for at, unseen in enumerate(cut[: 1 if given.quick else PARTS]):
        student = Path(given.student).name if given.student else f"{given.hidden}x{given.layers}"
        folder = given.work / f"{name}-{student}-{given.epochs}-{given.seed}-{at}"
        seen = [q for other, part in enumerate(cut) if other != at for q in part]
        model = train(folder, seen, given, given.seed + at)
        trust = agreement(seen)
        given_rewards = rewards(model, unseen)
        liked = mean_rewards(unseen, given_rewards)
        found = [Judged(q, r, trust, liked) for q, r in zip(unseen, given_rewards, strict=True)]
        by_part.append(found)
        print(f"{name}, part {at + 1}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return figures([j for part in by_part for j in part], by_part)


def table(name: str, found: dict[str, Any]) -> str:
    lines = [f"\n## {name}, {found['questions']} questions\n", "| | accuracy | to the vote |", "|---|---:|---:|"]
    for who, row in found["accuracies"].items():
        difference = row["to the vote"] if who != "vote" else ""
        lines.append(f"| {who} | {row['accuracy']} | {difference} |")
    ties, ranks = found["ties"], found["ranks right"]
    broken = ", ".join(f"{who} {figure}" for who, figure in ties["broken rightly"].items())
    lines += [
        f"\nTies: {ties['all']}, with a right answer in first place {ties['with a right answer in first place']}; "
        f"broken rightly by {broken or 'nobody'}.",
        "A right response above a wrong one: "
        + "; ".join(f"{what} {', '.join(f'{v:.3f}' for v in values)} (by part)" for what, values in ranks.items()),
        f"The pick of best of N is of the best author in {found['pick is of the best author']:.1%}; "
        f"{found['too long to read']} responses were too long to read; {found['label right']:.1%} of labels are right.",
    ]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, Figure):
        return value.as_dict()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    arguments.add_argument("--work", type=Path, default=Path("runs/vote_against_reward_model"))
    arguments.add_argument("--output", type=Path, help="JSON of all figures")
    arguments.add_argument("--student", help="a causal LM to start from, instead of one made on the spot")
    arguments.add_argument("--hidden", type=int, default=128)
    arguments.add_argument("--layers", type=int, default=2)
    arguments.add_argument("--epochs", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the questions, and one part of three")
    given = arguments.parse_args()
    folder, found = Path(fill_data_folder("$REWARD_DISTILLER_DATA")), {}
    for name in given.data:
        questions = DATA[name](folder)
        found[name] = judge(name, questions[:: 10 if given.quick else 1], given)
        print(table(name, found[name]), flush=True)
    if given.output:
        options = {key: str(value) for key, value in vars(given).items()}
        write_json(given.output, {"options": options, **_plain(found)})


if __name__ == "__main__":
    main()
