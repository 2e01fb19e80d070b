"""The testbed's language models, pretrained from scratch: the student, and the larger LM that serves as KL teacher.

Each is a plain Hugging Face folder (tiny Qwen3, word-level tokenizer, chat template), cached under a
name made of everything that decides its weights. Knows nothing of rewards.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from reward_distiller.console import track
from reward_distiller.files import locked, new_folder
from reward_distiller.records import content_id
from reward_distiller.teacher.completion import read_completion
from reward_distiller.testbed.language import STYLES, Task, World
from reward_distiller.testbed.minds import TEACHER
from reward_distiller.testbed.models import reply

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message.role + '> ' + message.content + ' <end>' }}"
    "{% if not loop.last or add_generation_prompt %}{{ ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
SPECIAL = ("<pad>", "<unk>", "<system>", "<user>", "<assistant>", "<end>")
# At this size, the usual 0.02 makes copying appear several times later.
INITIALIZER_RANGE = 0.06
DRILLS = 0.45  # share of documents that are long concise lists: what teaches copying soonest
BATCH = 32
PEAK_RATE = 3e-3


@dataclass(frozen=True)
class Kind:
    """One of the testbed's language models: its size, and whose responses it learns to write."""

    name: str
    hidden: int
    layers: int
    heads: int
    respond: Callable[[World, str, random.Random], str]


def _right_answer(world: World, prompt: str, rng: random.Random) -> str:
    task = world.read(prompt)
    assert task is not None
    return world.respond(task, world.right_items(task, rng), rng.choice(STYLES), rng)


def _teachers_answer(world: World, prompt: str, rng: random.Random) -> str:
    messages = [{"role": "user", "content": prompt}]
    return read_completion(reply({"model": TEACHER, "messages": messages, "testbed": {"seed": world.seed}})).text


STUDENT = Kind("student", 128, 4, 4, _right_answer)
LM_TEACHER = Kind("lm-teacher", 192, 5, 4, _teachers_answer)


def build_tokenizer(world: World) -> transformers.PreTrainedTokenizerFast:
    """One token a word; words of other worlds are <unk>."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *world.vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=["<system>", "<user>", "<assistant>"],
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def pretrained(cache: Path, world: World, kind: Kind, steps: int, threads: int) -> Path:
    """The folder of a language model of this kind, trained first where it is not there yet."""
    recipe = {
        "kind": [kind.name, kind.hidden, kind.layers, kind.heads],
        "vocabulary": world.vocabulary(),
        "facts": world.facts,
        "steps": steps,
        "threads": threads,
        "torch": torch.__version__,
        "constants": [INITIALIZER_RANGE, DRILLS, BATCH, PEAK_RATE],
    }
    folder = cache / f"{kind.name}-{content_id(recipe)}"
    with locked(cache / f"{folder.name}.lock", wait=True):  # who comes second needs the same model
        if not folder.exists():
            with new_folder(folder) as temporary:
                _pretrain(temporary, world, kind, steps, threads)
    return folder


def _document(world: World, kind: Kind, rng: random.Random) -> tuple[str, str]:
    """A prompt and its response."""
    if rng.random() >= DRILLS:
        prompt = world.prompts(1, rng.randrange(2**31), "train")[0]
        return prompt, kind.respond(world, prompt, rng)
    words = tuple(rng.sample(world.members, rng.randint(3, 9)))
    drill = rng.choice(("repeat", "reverse"))
    task = Task(drill, "", words, len(words))
    start = "repeat these words" if drill == "repeat" else "say these words backwards"
    return f"{start} : {' '.join(words)}", world.respond(task, world.right_items(task, rng), "concise", rng)


def _pretrain(folder: Path, world: World, kind: Kind, steps: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        tokenizer = build_tokenizer(world)
        torch.manual_seed(world.seed)
        model = transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=kind.hidden,
                num_hidden_layers=kind.layers,
                num_attention_heads=kind.heads,
                num_key_value_heads=kind.heads,
                intermediate_size=3 * kind.hidden,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                head_dim=kind.hidden // kind.heads,
                initializer_range=INITIALIZER_RANGE,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
            )
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
        rng = random.Random(f"pretrain:{kind.name}:{world.seed}")
        with track(f"pretrain {kind.name}", steps) as advance:
            for step in range(steps):
                rate = PEAK_RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                inputs, labels = _batch(tokenizer, [_document(world, kind, rng) for _ in range(BATCH)])
                optimizer.zero_grad()
                torch.autograd.backward(model(**inputs, labels=labels).loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                advance()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        torch.set_num_threads(before)


def _batch(
    tokenizer: transformers.PreTrainedTokenizerFast, documents: list[tuple[str, str]]
) -> tuple[transformers.BatchEncoding, torch.Tensor]:
    """Inputs and labels of a batch; only the assistant's tokens, the end among them, are learned."""
    starts = [len(tokenizer(f"<user> {p} <end> <assistant> ")["input_ids"]) for p, _ in documents]
    texts = [f"<user> {p} <end> <assistant> {r} <end>" for p, r in documents]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    for row, start in enumerate(starts):
        labels[row, :start] = -100
    return inputs, labels
