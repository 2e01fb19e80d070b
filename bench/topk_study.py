"""What a teacher's top-k log-probabilities lose against its whole distribution: `python bench/topk_study.py`.

Compares KL(teacher ‖ student) and its gradient, summed over tokens, from the k most probable tokens with the full
ones. Two sources: the testbed's LMs (178 tokens; made first, cached in runs/testbed), and a synthetic pair over
Qwen's 151,936 tokens with a Zipf-like tail, a few contextual candidates a token, and a student whose hidden states are
the teacher's with noise. The last column is what fp16 storage costs: the mean and the largest change of a token's KL.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import torch
import transformers
from torch import Tensor

from reward_distiller.model.regularizer import TopK, _full, _top_k
from reward_distiller.testbed.language import World
from reward_distiller.testbed.student import LM_TEACHER, STUDENT, _batch, _document, pretrained

KS = (8, 20, 128)
VOCABULARY, HIDDEN, TOKENS = 151_936, 256, 48
Case = tuple[Tensor, Tensor, Tensor]  # logits of the teacher and of the student (T, V), the student's head (V, D)


def testbed(student_steps: int) -> Case:
    """The testbed's LM teacher, and a student of so many steps, on responses of the teacher."""
    world, cache = World(0), Path("runs/testbed")
    folders = [pretrained(cache, world, LM_TEACHER, 300, 2), pretrained(cache, world, STUDENT, student_steps, 2)]
    teacher, student = (transformers.AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders)
    tokenizer, rng = transformers.AutoTokenizer.from_pretrained(folders[0]), random.Random(1)
    inputs, labels = _batch(tokenizer, [_document(world, LM_TEACHER, rng) for _ in range(32)])
    predicts = labels[:, 1:] >= 0
    logits = [lm(**inputs).logits[:, :-1][predicts] for lm in (teacher, student)]
    return logits[0], logits[1], student.get_output_embeddings().weight


def synthetic(error: float) -> Case:
    """`error`: standard deviation of the noise on the student's logits, in nats."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weight = normal(VOCABULARY, HIDDEN) / math.sqrt(HIDDEN)  # rows of length 1
    rank = torch.randperm(VOCABULARY, generator=generator) + 1
    candidates = weight[torch.randint(VOCABULARY, (TOKENS, 6), generator=generator)]
    strength = 16 * torch.rand(TOKENS, 1, 1, generator=generator) + torch.tensor([16.0, 10, 8, 6, 4, 2])[:, None]
    hidden = (candidates * strength.clamp(min=0)).sum(1) + 1.5 * normal(TOKENS, HIDDEN)
    noisy = hidden + error * normal(TOKENS, HIDDEN)
    unigram = -rank.float().log()
    return hidden @ weight.T + unigram, noisy @ weight.T + unigram, weight


def full(case: Case) -> tuple[Tensor, Tensor]:
    """KL by token (T,), and its gradient with respect to the student's logits (T, V)."""
    teacher, gradient = case[0].clone(), case[1].clone()
    gradient.sub_(gradient.amax(-1, keepdim=True))
    none, one = torch.zeros(len(gradient), 1), torch.ones(len(gradient), 1)
    _, kl = _full(gradient, teacher, none, one)
    return kl, gradient


def top_k(case: Case, k: int, tail: bool, storage: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    log_p, ids = case[0].log_softmax(-1).topk(k)
    gradient = case[1] - case[1].amax(-1, keepdim=True)
    none, one = torch.zeros(len(gradient), 1), torch.ones(len(gradient), 1)
    _, kl = _top_k(gradient, TopK(ids, log_p.to(storage).float()), none, one, tail)
    return kl, gradient


def study(name: str, case: Case) -> None:
    kl, gradient = full(case)
    log_p = case[0].log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    for k in KS:
        outside = 1 - log_p.topk(k).values.exp().sum(-1).mean()
        cells = [name, f"{entropy:.2f}", f"{kl.mean():.4f}", str(k), f"{outside:.1e}"]
        for tail in (True, False):
            value, ours = top_k(case, k, tail)
            difference = ours - gradient
            of_logits = difference.norm() / gradient.norm()
            of_hidden = (difference @ case[2]).norm() / (gradient @ case[2]).norm()
            cells += [f"{(value.sum() / kl.sum() - 1):+.1%}", f"{of_logits:.1%}", f"{of_hidden:.1%}"]
        exact, half = (top_k(case, k, True, dtype)[0] for dtype in (torch.float32, torch.float16))
        cells.append(f"{(half - exact).abs().mean():.0e}, {(half - exact).abs().max():.0e}")
        print("| " + " | ".join(cells) + " |")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    with torch.enable_grad():
        testbeds = {f"testbed, student of {steps} steps": testbed(steps) for steps in (60, 200)}
    print("| pair | entropy | KL | k | mass outside ", end="")
    print("| " + " | ".join(f"{t}: {w}" for t in ("tail", "no tail") for w in ("KL", "∂logits", "∂hidden")), end="")
    print(" | fp16: mean, max |\n|" + "---|" * 12)
    for name, case in testbeds.items():
        study(name, case)
    for error in (0.25, 0.5, 1.0, 2.0):
        study(f"151,936 tokens, error {error}", synthetic(error))


if __name__ == "__main__":
    main()
