"""Data profiles: preference pairs from published data sets, as they occur, and how many were left out and why.

No published set has refined responses, so they are simulated, and said to be: one word of the rejected response,
drawn uniformly, is replaced by another word of it, so that the tokens before the edit are shared and those from it
on are new. Their scores are simulated too; only what it costs to train on them is measured, never what is learned.
Knows no models; a profile of prompts of a given length is handed a function that counts a prompt's tokens.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reward_distiller.construct.recorded import ANNOTATIONS, LEFT_OUT, REFERENCE, alpaca_eval_pairs
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.benchmarks.reading import load as load_benchmark
from reward_distiller.evaluate.benchmarks.rm_bench import BENCHMARK as RM_BENCH
from reward_distiller.files import read_rows
from reward_distiller.records import Message, Pair, Prompt

WORD = re.compile(r"\w+")
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
PROMPT_TOKENS, TOLERANCE = 500, 25  # of the profile prompt_500
ONE_STYLE, OTHER_STYLE = 0, 2  # RM-Bench: concise, detailed, detailed in Markdown
CountTokens = Callable[[Prompt], int]


@dataclass
class Profile:
    pairs: list[Pair] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def load(name: str, data: Path, seed: int, tokens_of: CountTokens, prompts: int | None = None) -> Profile:
    """The pairs of so many prompts, in an order that the seed decides; `data` is the folder $REWARD_DISTILLER_DATA."""
    profile = Profile()
    if name == "hh_rlhf":
        drawn = list(_hh_rlhf(data, profile.left_out))
    elif name in ("alpaca_eval", "prompt_500"):
        drawn = list(_alpaca_eval(data, seed))
    elif name == "rm_bench":
        drawn = list(_rm_bench(data))
    elif name in ("paper", "ultrafeedback"):
        drawn = list(_ultrafeedback(data))
    else:
        raise ValueError(f"no profile {name!r}")
    random.Random(f"{name}:{seed}").shuffle(drawn)
    histories = list(_hh_rlhf(data, Counter())) if name == "prompt_500" else []
    seen: set[str] = set()
    for pair in drawn[:prompts]:
        if pair.prompt.id in seen or not pair.chosen.strip() or not pair.rejected.strip():
            profile.left_out["duplicate prompt or empty response"] += 1
            continue
        seen.add(pair.prompt.id)
        if name == "prompt_500":
            longer = _behind_a_conversation(pair, histories, seed, tokens_of)
            if longer is None:
                profile.left_out[f"no prompt of {PROMPT_TOKENS} ± {TOLERANCE} tokens"] += 1
                continue
            pair = longer
        refined = [refine(pair, seed)] if name not in ("hh_rlhf", "ultrafeedback") else []
        if None in refined:
            profile.left_out["no word of the rejected response to edit"] += 1
            continue
        profile.pairs += [pair, *(r for r in refined if r)]
    return profile


def refine(pair: Pair, seed: int) -> Pair | None:
    """A simulated refined pair: the rejected response against itself with one word replaced. None: too few words."""
    words = list(WORD.finditer(pair.rejected))
    rng = random.Random(f"refine:{seed}:{pair.id}")
    if len({w.group() for w in words}) < 2:
        return None
    old = rng.choice(words)
    new = rng.choice([w.group() for w in words if w.group() != old.group()])
    text = pair.rejected[: old.start()] + new + pair.rejected[old.end() :]
    scores = {"chosen_score": (pair.rejected_score or 0.0) + 4.0, "rejected_score": pair.rejected_score or 0.0}
    return Pair.of(
        pair.prompt,
        text,
        pair.rejected,
        "refined",
        teacher_response=pair.teacher_response,
        provenance={"simulated": True},
        **scores,
    )


def best_of_16(data: Path, seed: int, tokens_of: CountTokens | None = None) -> Iterator[tuple[Prompt, list[str]]]:
    """AlpacaEval's instructions with the answers of 15 models and of the reference.

    With `tokens_of` they stand behind real conversations, so that the prompt has about 500 tokens.
    """
    folder = data / "alpaca_eval"
    references = {row["idx"]: row for _, row in read_rows(folder / REFERENCE)}
    answers: dict[int, list[str]] = {idx: [row["output"]] for idx, row in references.items()}
    for path in sorted((folder / ANNOTATIONS).glob("*.jsonl*")):
        for _, row in read_rows(path):
            if row["generator"] not in LEFT_OUT:
                answers[row["idx"]].append(row["output"])
    rows = [(Prompt.from_text(references[idx]["instruction"]), answers[idx]) for idx in sorted(references)]
    rng = random.Random(f"best_of_16:{seed}")
    rng.shuffle(rows)
    histories = list(_hh_rlhf(data, Counter())) if tokens_of else []
    for prompt, responses in rows:
        longer = lengthen(prompt, rng.sample(histories, 20), tokens_of) if tokens_of else prompt
        if longer:
            yield longer, responses


def rm_bench_rows(data: Path, seed: int) -> Iterator[tuple[Prompt, list[str]]]:
    """RM-Bench's prompts with their 3 + 3 responses, so that any stretch has its files about in proportion."""
    rng = random.Random(f"rm_bench_rows:{seed}")
    files: dict[str, list[Example]] = {}
    for example in load_benchmark(RM_BENCH, str(data / "rm_bench"))[0]:
        files.setdefault(example.id.split(":")[0], []).append(example)
    placed = []
    for examples in files.values():
        rng.shuffle(examples)
        placed += [((at + 0.5) / len(examples), example) for at, example in enumerate(examples)]
    for _, example in sorted(placed, key=lambda item: item[0]):
        yield example.prompt, list(example.responses)


def _alpaca_eval(data: Path, seed: int) -> Iterator[Pair]:
    """Two models' answers with the judge's scores; GPT-4's own answer is the teacher response."""
    rows, _ = alpaca_eval_pairs(data / "alpaca_eval", 1, seed)
    names = ("chosen_score", "rejected_score", "teacher_response")
    for row in rows:
        prompt = Prompt.from_text(row["prompt"])
        yield Pair.of(prompt, row["chosen"], row["rejected"], "sampled", **{name: row[name] for name in names})


def _rm_bench(data: Path) -> Iterator[Pair]:
    """The right against the wrong response in one style; the right one in another style is the teacher response."""
    for path in sorted((data / "rm_bench").glob("*_filtered.json")):
        for _, row in read_rows(path):
            yield Pair.of(
                Prompt.from_text(row["prompt"]),
                row["chosen"][ONE_STYLE],
                row["rejected"][ONE_STYLE],
                "sampled",
                chosen_score=8.0,
                rejected_score=4.0,
                teacher_response=row["chosen"][OTHER_STYLE],
            )


def _ultrafeedback(data: Path) -> Iterator[Pair]:
    """Pairs with GPT-4's scores. The file has no teacher responses: the chosen one stands in for them."""
    for _, row in read_rows(data / "ultrafeedback/train_1000.jsonl.gz"):
        yield Pair.of(
            Prompt.from_text(row["prompt"]),
            row["chosen"],
            row["rejected"],
            "sampled",
            chosen_score=row["metadata"]["score_chosen"],
            rejected_score=row["metadata"]["score_rejected"],
            teacher_response=row["chosen"],
        )


def _hh_rlhf(data: Path, left_out: Counter[str]) -> Iterator[Pair]:
    """Human preferences on the last turn of a conversation; where two conversations part earlier, they are left out."""
    for _, row in read_rows(data / "hh_rlhf/harmless-base_test_part.jsonl.gz"):
        (before, chosen), (other, rejected) = (row[side].rsplit("\n\nAssistant:", 1) for side in ("chosen", "rejected"))
        prompt = conversation(before)
        if before != other:
            left_out["the conversations part before the last turn"] += 1
        elif prompt is None:
            left_out["turns do not alternate, or an empty one"] += 1
        elif chosen.strip() == rejected.strip():
            left_out["equal responses"] += 1
        else:
            scores = {"chosen_score": None, "rejected_score": None}
            yield Pair.of(prompt, chosen.strip(), rejected.strip(), "labeled", **scores)


def conversation(text: str) -> Prompt | None:
    """HH-RLHF's text up to an assistant's turn as messages; None unless both alternate and nobody is silent."""
    parts = TURN.split(text)
    turns = [(ROLES[name], said.strip()) for name, said in zip(parts[1::2], parts[2::2])]
    expected = ["user", "assistant"] * (len(turns) // 2) + ["user"]
    if parts[0].strip() or [role for role, _ in turns] != expected or not all(said for _, said in turns):
        return None
    return Prompt.of(tuple(Message.model_validate({"role": role, "content": said}) for role, said in turns))


def _behind_a_conversation(pair: Pair, histories: list[Pair], seed: int, tokens_of: CountTokens) -> Pair | None:
    """The pair behind real conversations from HH-RLHF, so that its prompt has about 500 tokens."""
    rng = random.Random(f"prompt_500:{seed}:{pair.id}")
    prompt = lengthen(pair.prompt, rng.sample(histories, 20), tokens_of)
    rest = pair.model_dump(include={"chosen_score", "rejected_score", "teacher_response"})
    return Pair.of(prompt, pair.chosen, pair.rejected, "sampled", **rest) if prompt else None


def lengthen(prompt: Prompt, histories: list[Pair], tokens_of: CountTokens) -> Prompt | None:
    """The prompt behind earlier turns, the oldest cut at its front where it would be too much; None if too long."""
    messages = prompt.messages
    if tokens_of(prompt) > PROMPT_TOKENS + TOLERANCE:
        return None
    for history in histories:
        answered = (*history.prompt.messages, Message(role="assistant", content=history.chosen))
        for asked, answer in reversed(list(zip(answered[::2], answered[1::2], strict=True))):
            longer = Prompt.of((asked, answer, *messages))
            if tokens_of(longer) > PROMPT_TOKENS + TOLERANCE:
                return _cut(asked, answer, messages, tokens_of)
            messages = longer.messages
            if tokens_of(longer) >= PROMPT_TOKENS - TOLERANCE:
                return longer
    return None


def _cut(asked: Message, answer: Message, rest: tuple[Message, ...], tokens_of: CountTokens) -> Prompt | None:
    """The two oldest turns lose words at their front, the older one first, until the prompt fits."""
    first, second = asked.content.split(" "), answer.content.split(" ")

    def without(words: int) -> Prompt:
        later = max(0, words - len(first) + 1)  # a turn keeps a word at least
        user = Message(role="user", content=" ".join(first[min(words, len(first) - 1) :]))
        assistant = Message(role="assistant", content=" ".join(second[min(later, len(second) - 1) :]))
        return Prompt.of((user, assistant, *rest))

    counts = range(len(first) + len(second) - 1)
    at = bisect_left(counts, True, key=lambda words: tokens_of(without(words)) <= PROMPT_TOKENS + TOLERANCE)
    if at == len(counts) or tokens_of(without(at)) < PROMPT_TOKENS - TOLERANCE:
        return None
    return without(at)
