"""A policy's log-probabilities, KL and samples, against what the LM itself gives row by row."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from reward_distiller.rl.policy import Batch, Policy, Sampled


def policy(limit: int = 12, temperature: float = 1.0, architecture: str = "Llama", seed: int = 0) -> Policy:
    chat = tiny.chat(pad_token="<pad>", eos_token="<eos>")
    return Policy(tiny.tiny_lm(len(chat.tokenizer), architecture, seed), chat, limit, temperature)


def responses(own: Policy, count: int = 5) -> list[Sampled]:
    openings = [own.opening([{"role": "user", "content": "x" * (3 * at)}]) for at in range(count)]
    torch.manual_seed(1)
    return own.sample(openings)


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "Gemma2", "Cohere"])
def test_log_probabilities_are_the_lm_s_own(architecture: str) -> None:
    """Row by row without padding; Gemma 2 caps its logits and Cohere scales them."""
    own = policy(temperature=0.7, architecture=architecture)
    samples = responses(own)
    for sample, found in zip(samples, own.log_probabilities(samples), strict=True):
        ids = torch.tensor([[*sample.prompt_ids, *sample.ids]])
        log_p = (own.lm(ids).logits[0].float() / 0.7).log_softmax(-1)
        start = len(sample.prompt_ids)
        wanted = [log_p[start - 1 + at, token].item() for at, token in enumerate(sample.ids)]
        assert found.tolist() == pytest.approx(wanted, abs=2e-4)


def test_kl_is_that_of_whole_distributions() -> None:
    own, other = policy(), policy(seed=1)
    samples = responses(own, 3)
    assert own.kl_to(own.lm, samples) == pytest.approx([0.0] * 3, abs=1e-5)
    for sample, found in zip(samples, own.kl_to(other.lm, samples), strict=True):
        ids, start = torch.tensor([[*sample.prompt_ids, *sample.ids]]), len(sample.prompt_ids)
        ours, theirs = (lm(ids).logits[0, start - 1 : -1].float().log_softmax(-1) for lm in (own.lm, other.lm))
        assert found == pytest.approx(((ours.exp() * (ours - theirs)).sum()).item(), rel=1e-3)


def test_a_response_ends_with_its_end_token_or_at_the_limit() -> None:
    own = policy(limit=40)
    end = own.chat.end_token_id()
    assert end in own.ends
    found = responses(own, 30)
    assert {s.finished for s in found} == {True, False}  # random weights do both
    for sample in found:
        assert (sample.ids[-1] in own.ends) == sample.finished
        assert not set(sample.ids[:-1]) & set(own.ends)
        assert sample.finished or len(sample.ids) == 40


def test_samples_follow_from_the_seed_and_differ_without() -> None:
    own = policy()
    first, again = responses(own), responses(own)
    assert first == again
    assert own.sample([s.prompt_ids for s in first]) != first


def test_greedy_takes_the_most_probable_token() -> None:
    own = policy(limit=4)
    (sample,) = own.sample([own.opening([{"role": "user", "content": "hello"}])], greedy=True)
    ids = list(sample.prompt_ids)
    for token in sample.ids:
        assert int(own.lm(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_sampling_changes_neither_mode_nor_settings() -> None:
    own = policy()
    own.lm.train()
    settings = own.lm.generation_config
    responses(own, 1)
    assert own.lm.training
    assert own.lm.generation_config is settings


def test_frequencies_are_the_distribution_at_the_temperature() -> None:
    own = policy(limit=1, temperature=2.0)
    opening = own.opening([{"role": "user", "content": "?"}])
    torch.manual_seed(0)
    first = [sample.ids[0] for sample in own.sample([opening] * 4000)]
    p = (own.lm(torch.tensor([opening])).logits[0, -1].float() / 2.0).softmax(-1)
    likely = int(p.argmax())
    share = first.count(likely) / 4000
    assert share == pytest.approx(float(p[likely]), abs=4 * math.sqrt(0.25 / 4000))


def test_batches_put_the_end_of_prompts_in_one_column() -> None:
    samples = [Sampled((1, 2, 3), (4,), True, ""), Sampled((5,), (6, 7), False, "")]
    batch = Batch.of(samples, pad=9)
    assert batch.ids_RL.tolist() == [[1, 2, 3, 4, 9], [9, 9, 5, 6, 7]]
    assert batch.mask_RL.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.target_RT.tolist() == [[4, 9], [6, 7]]
    assert batch.mask_RT.tolist() == [[True, False], [True, True]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 3], [0, 0, 0, 1, 2]]


def test_saved_and_loaded(tmp_path) -> None:
    own = policy()
    own.save(tmp_path / "model", {"run_key": "k"})
    again = Policy.from_pretrained(str(tmp_path / "model"), 12)
    assert again.ends == own.ends
    samples = responses(own, 2)
    for a, b in zip(own.log_probabilities(samples), again.log_probabilities(samples), strict=True):
        assert torch.equal(a, b)


def test_context_does_not_depend_on_the_batch() -> None:
    own = policy()
    openings = [s.prompt_ids for s in responses(own, 4)]
    alone = torch.tensor([own.context([o]) for o in openings]).mean(0)
    assert torch.allclose(torch.tensor(own.context(openings)), alone, atol=1e-5)
