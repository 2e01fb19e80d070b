"""The loss of a whole step against separate unpadded float64 forwards, and the traps around it."""

import math
from dataclasses import replace

import pytest
import tiny
import torch
import transformers

from reward_distiller.config import Training
from reward_distiller.errors import ModelError, TrainingError
from reward_distiller.model.alignment import aligned_places
from reward_distiller.model.batches import Reading, encode_pairs, plan_steps
from reward_distiller.model.loading import build_network, load_causal_lm
from reward_distiller.model.objectives import Objective, bradley_terry, margin_regression
from reward_distiller.model.teachers import ReferenceLM, check_vocabularies
from reward_distiller.model.trainer import Trainer
from reward_distiller.testbed.language import World
from reward_distiller.testbed.student import build_tokenizer

FULL = Objective(margin_regression, pair_weight=0.6, nll_weight=0.25, kl_weight=0.15)


def setup(budget=10**6, objective=FULL, seed=0, reading=tiny.FULL_READING, **training):
    chat = tiny.chat(pad_token="<|im_end|>", eos_token="<|im_end|>")  # the trap: padding looks like an end
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, seed)
    reference = ReferenceLM(tiny.tiny_lm(len(chat.tokenizer), seed=1).eval())
    settings = Training(tokens_per_batch=budget, center=0.03, **training)
    trainer = Trainer(network, objective, settings, reference)
    encoded, _ = encode_pairs(tiny.pairs(), chat, 500, reading)
    return trainer, encoded, reference


def naive_step_loss(trainer, encoded, reference):
    """Equation 5 with the denominators of the design, one sequence at a time, in float64."""
    network = trainer.network.double()
    network.classifier.base_model.set_attn_implementation("eager")
    lm = reference.lm.double()

    def hidden(sequence):
        return network.classifier.base_model(input_ids=torch.tensor([sequence.ids])).last_hidden_state[0]

    def reward(sequence, at=-1):
        return network.classifier.score(hidden(sequence)[at])[0]

    pair_loss = center = regularizer = 0.0
    weights = sum(pair.weight for pair in encoded)
    for pair in encoded:
        chosen, rejected = reward(pair.chosen), reward(pair.rejected)
        margin = pair.chosen_scores[0] - pair.rejected_scores[0]
        loss = ((chosen - rejected) - margin) ** 2
        if pair.places:
            inside = [
                (reward(pair.chosen, at) - reward(pair.rejected, on) - share * margin) ** 2
                for at, on, share in pair.places
            ]
            loss = 0.7 * loss + 0.3 * sum(inside) / len(inside)
        pair_loss += pair.weight * loss / weights
        center += (chosen + rejected) ** 2 / len(encoded)
        log_p = torch.log_softmax(network.lm_head(hidden(pair.supervised[0])), -1)
        log_q = torch.log_softmax(lm(input_ids=torch.tensor([pair.supervised[0].ids])).logits[0].double(), -1)
        terms = 0.0
        for at in pair.supervised[0].response:
            token = pair.supervised[0].ids[at]
            terms += -0.25 * log_p[at - 1, token] + 0.15 * (log_q[at - 1].exp() * (log_q[at - 1] - log_p[at - 1])).sum()
        regularizer += terms / len(pair.supervised[0].response) / len(encoded)
    return 0.6 * pair_loss + 0.03 * center + regularizer


@pytest.mark.parametrize("weights", [{}, {"sampled": 0.25}])
@pytest.mark.parametrize("budget", [8, 600, 10**6])
def test_step_loss_and_gradients_equal_separate_unpadded_forwards(budget, weights):
    trainer, encoded, reference = setup(budget, reading=replace(tiny.FULL_READING, weights=weights))
    assert {p.weight for p in encoded} == {1.0, *weights.values()}
    _check_step(trainer, encoded, reference)


@pytest.mark.parametrize("layout", ["trees", "padded"])
@pytest.mark.parametrize("budget", [8, 10**6])
def test_pairs_compared_along_their_edits_equal_separate_unpadded_forwards(budget, layout):
    objective = replace(FULL, aligned_weight=0.3)
    reading = replace(tiny.FULL_READING, weights={"sampled": 0.25}, aligned=True)
    trainer, encoded, reference = setup(budget, objective, reading=reading, layout=layout)
    encoded = [
        replace(p, places=aligned_places(p.chosen.ids, p.rejected.ids)) if n % 3 else p for n, p in enumerate(encoded)
    ]
    assert {bool(p.places) for p in encoded} == {True, False}
    _check_step(trainer, encoded, reference)


def _check_step(trainer, encoded, reference):
    (groups,) = plan_steps(encoded, 100, 1, 0)
    loss = trainer.accumulate(groups)["loss"]
    gradients = {n: p.grad.double().clone() for n, p in trainer.network.named_parameters()}

    trainer.network.zero_grad()
    naive = naive_step_loss(trainer, encoded, reference)
    naive.backward()
    assert loss == pytest.approx(naive.item(), rel=1e-5)
    for name, parameter in trainer.network.named_parameters():
        difference = (gradients[name] - parameter.grad).norm() / parameter.grad.norm().clamp(min=1e-12)
        assert difference < 1e-4, name


def test_shared_sequences_are_computed_once():
    _, encoded, _ = setup()
    (groups,) = plan_steps(encoded, 100, 1, 0)
    double = [g for g in groups if len(g.pairs) == 2]
    assert double
    for group in double:
        assert len(group.sequences) == 4  # two chosen, one rejected, one teacher response
        assert list(group.supervised.values()) == [2]


def test_every_step_has_its_number_of_pairs_and_every_epoch_every_pair():
    _, encoded, _ = setup()
    steps = plan_steps(encoded, 3, 2, 0)
    sizes = [sum(len(g.pairs) for g in groups) for groups in steps]
    assert sizes == [3, 3, 1, 3, 3, 1]
    for epoch in (steps[:3], steps[3:]):
        assert sorted(i for s in epoch for g in s for i in tiny.pair_ids(g)) == sorted(p.id for p in encoded)
    assert steps[:3] != steps[3:]


def test_training_twice_gives_the_same_bits():
    states = []
    for _ in range(2):
        trainer, encoded, _ = setup(200, pairs_per_step=2, epochs=2, learning_rate=1e-2, threads=2)
        list(trainer.train(encoded, 0))
        states.append(trainer.network.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_training_learns_the_margins_and_centres_the_rewards():
    trainer, encoded, _ = setup(
        objective=Objective(margin_regression), pairs_per_step=4, epochs=150, learning_rate=3e-3
    )
    log = list(trainer.train(encoded, 0))
    assert log[-1]["pair_loss"] < 0.05 * log[0]["pair_loss"]
    assert log[-1]["accuracy"] == 1.0

    def offset(center):
        chat = tiny.chat()
        network = build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, 0)
        with torch.no_grad():  # rewards far from zero, which no loss of differences would mend
            network.classifier.score.weight.mul_(8)
        settings = Training(center=center, pairs_per_step=4, epochs=60, learning_rate=3e-3)
        trained = Trainer(network, Objective(margin_regression), settings)
        last = [row["center"] for row in trained.train(encoded, 0)][-3:]
        return sum(last) / 3

    assert offset(0.1) < 0.5 * offset(0.0)


def test_bf16_checkpoints_train_in_fp32(tmp_path):
    chat = tiny.chat()
    lm = tiny.tiny_lm(len(chat.tokenizer) + 1).to(torch.bfloat16)
    lm.save_pretrained(tmp_path)
    network = build_network(load_causal_lm(str(tmp_path)), chat, 0)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    with torch.no_grad():
        network.classifier.score.weight.fill_(0.02)
    trainer = Trainer(network, Objective(bradley_terry), Training(learning_rate=1e-5, warmup_ratio=0.0))
    encoded, _ = encode_pairs(tiny.pairs(), chat, 500, Reading())
    list(trainer.train(encoded, 0))
    moved = (network.classifier.score.weight - 0.02).abs()
    assert moved.min() > 1e-6  # bf16 would have rounded every step away


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Mistral"])
def test_dropout_is_off_while_training(architecture):
    chat = tiny.chat()
    network = build_network(tiny.tiny_lm(len(chat.tokenizer) + 1, architecture, attention_dropout=0.5), chat, 0)
    trainer = Trainer(network.train(), Objective(bradley_terry), Training())
    encoded, _ = encode_pairs(tiny.pairs(), chat, 500, Reading())
    (groups,) = plan_steps(encoded, 100, 1, 0)
    assert trainer.accumulate(groups)["loss"] == trainer.accumulate(groups)["loss"]


def test_the_head_starts_at_its_scale():
    chat = tiny.chat()
    weights = [build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, s).classifier.score.weight for s in range(40)]
    assert torch.cat(weights).std().item() == pytest.approx(1 / math.sqrt(33), rel=0.1)


def test_a_diverging_run_stops_with_its_pairs():
    trainer, encoded, _ = setup(objective=Objective(margin_regression))
    with torch.no_grad():
        trainer.network.classifier.score.weight.fill_(math.inf)
    with pytest.raises(TrainingError, match=encoded[0].id):
        list(trainer.train(encoded, 0))


def test_no_pairs_is_an_error():
    trainer, _, _ = setup()
    with pytest.raises(TrainingError, match="no pairs are left"):
        list(trainer.train([], 0))


def test_another_vocabulary_is_found_before_training():
    check_vocabularies(tiny.byte_tokenizer(), tiny.byte_tokenizer(), "teacher")
    check_vocabularies(tiny.byte_tokenizer(pad_token="<pad>"), tiny.byte_tokenizer(), "teacher")
    check_vocabularies(tiny.byte_tokenizer(), tiny.byte_tokenizer(pad_token="<pad>"), "teacher")
    with pytest.raises(ModelError, match="another vocabulary"):
        check_vocabularies(tiny.byte_tokenizer(), build_tokenizer(World(0)), "teacher")


def test_dropout_modules_are_off_too():
    chat = tiny.chat(pad_token="<pad>")
    config = transformers.GPT2Config(vocab_size=len(chat.tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=512)
    network = build_network(transformers.GPT2LMHeadModel(config), chat, 0).train()
    assert all(m.p == 0.0 for m in network.modules() if isinstance(m, torch.nn.Dropout))


def test_two_teacher_responses_of_one_prompt_weigh_as_their_pairs():
    chat = tiny.chat()
    first, second = (p.model_copy(update={"teacher_response": f"answer {i}"}) for i, p in enumerate(tiny.pairs(2)[1:]))
    assert first.prompt == second.prompt
    encoded, _ = encode_pairs([first, second], chat, 500, tiny.FULL_READING)
    ((group,),) = plan_steps(encoded, 16, 1, 0)
    assert sorted(group.supervised.values()) == [1, 1]
