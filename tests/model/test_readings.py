"""What methods read of pairs, as the trainer computes it: attributes, critiques that are read and written."""

import pytest
import tiny
import torch

from reward_distiller.config import Training, parse_config
from reward_distiller.construct.labeled_responses import LabeledResponse, singles
from reward_distiller.errors import TrainingError
from reward_distiller.methods import method_named
from reward_distiller.model.batches import Reading, encode_pairs, plan_steps
from reward_distiller.model.loading import build_network
from reward_distiller.model.network import fold_attributes
from reward_distiller.model.objectives import Objective, attribute_regression, bradley_terry
from reward_distiller.model.trainer import Trainer

CONFIG = {
    "method": "edit_aligned",
    "output": "unused",
    "scenario": "labeled",
    "pairs": {"path": "unused"},
    "student": {"model": "unused"},
}
REQUEST = "Say what is wrong."
BY_HAND = {"chosen_critique": "good", "rejected_critique": "too short"}


def pairs_with(**fields):
    return [pair.model_copy(update=fields) for pair in tiny.pairs()]


def network_of(attributes=1):
    chat = tiny.chat()
    return chat, build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, 0, attributes)


def hidden_of(network, sequence):
    return network.classifier.base_model(input_ids=torch.tensor([sequence.ids])).last_hidden_state[0]


def step_of(trainer, encoded):
    (groups,) = plan_steps(encoded, 100, 1, 0)
    return trainer.accumulate(groups)


def test_attributes_are_regressed_one_by_one_and_folded_into_one_head():
    chat, network = network_of(2)
    pairs = pairs_with(chosen_attributes={"brevity": 7.0}, rejected_attributes={"brevity": 4.0})
    encoded, _ = encode_pairs(pairs, chat, 500, Reading(("overall", "brevity")))
    assert encoded[0].chosen_scores == (pairs[0].chosen_score, 7.0)
    objective = Objective(attribute_regression, attributes=(0.5, 2.0), absolute=True)
    loss = step_of(Trainer(network, objective, Training(center=0.5)), encoded)["loss"]
    network.classifier.base_model.set_attn_implementation("eager")
    expected, folded_by_hand = 0.0, []
    for pair in encoded:
        for sequence, scores in ((pair.chosen, pair.chosen_scores), (pair.rejected, pair.rejected_scores)):
            outputs = network.classifier.score(hidden_of(network, sequence)[-1])
            expected += float((outputs - torch.tensor(scores)).square().sum()) / 2 / len(encoded)
            folded_by_hand.append(float(0.5 * outputs[0] + 2.0 * outputs[1]))
    assert loss == pytest.approx(expected, rel=1e-5)  # and no centring: the scores fix the offset
    fold_attributes(network, (0.5, 2.0))
    folded = [
        float(network.classifier.score(hidden_of(network, s)[-1])) for p in encoded for s in (p.chosen, p.rejected)
    ]
    assert folded == pytest.approx(folded_by_hand, abs=1e-4)


def test_single_responses_are_read_once_each_and_by_no_loss_of_pairs():
    """The mean of -p log σ(r) - (1 - p) log(1 - σ(r)) over responses, against separate forwards."""
    chat, network = network_of()
    pairs = tiny.pairs()
    texts = {(p.prompt.id, text): (p.prompt, text) for p in pairs for text in (p.chosen, p.rejected)}
    alone = singles(
        [LabeledResponse(prompt, text, 0.25 * (at % 5)) for at, (prompt, text) in enumerate(texts.values())]
    )
    (stage,) = method_named("bce").stages(parse_config({**CONFIG, "method": "bce"}))
    encoded, dropped = encode_pairs(alone, chat, 500, stage.reading)
    assert (len(encoded), dropped.total()) == (len(texts), 0)
    (groups,) = plan_steps(encoded, 100, 1, 0)
    assert sum(len(group.sequences) for group in groups) == len(texts)
    loss = step_of(Trainer(network, stage.objective, Training(center=0.5)), encoded)["loss"]
    network.classifier.base_model.set_attn_implementation("eager")
    rewards = torch.stack([network.classifier.score(hidden_of(network, e.chosen)[-1])[0] for e in encoded])
    target = torch.tensor([0.25 * (at % 5) for at in range(len(texts))])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(rewards, target)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    none, dropped = encode_pairs(alone, chat, 500, Reading())
    assert (none, dropped) == ([], {"equal token sequences": len(texts)})


def test_rewards_are_read_behind_critiques_and_critiques_are_learned():
    """CLoud's second stage against separate forwards: -log σ(difference) + λ · NLL of the critiques' tokens."""
    chat, network = network_of()
    encoded, _ = encode_pairs(pairs_with(**BY_HAND), chat, 500, Reading((), "critiques", REQUEST))
    text = chat.tokenizer.decode(encoded[0].chosen.ids)
    assert text.endswith(f"<|im_start|>user\n{REQUEST}<|im_end|>\n<|im_start|>assistant\ngood<|im_end|>\n")
    response = encoded[0].chosen.response
    assert chat.tokenizer.decode(encoded[0].chosen.ids[response.start : response.stop]) == "good<|im_end|>"
    objective = Objective(bradley_terry, nll_weight=0.7)
    figures = step_of(Trainer(network, objective, Training(center=0.0)), encoded)
    network.classifier.base_model.set_attn_implementation("eager")
    pair_loss = nll = 0.0
    for pair in encoded:
        hidden = [hidden_of(network, s) for s in (pair.chosen, pair.rejected)]
        r_w, r_l = (float(network.classifier.score(h[-1])) for h in hidden)
        pair_loss += float(-torch.nn.functional.logsigmoid(torch.tensor(r_w - r_l))) / len(encoded)
        for sequence, states in zip((pair.chosen, pair.rejected), hidden, strict=True):
            log_p = torch.log_softmax(network.lm_head(states), -1)
            terms = sum(-float(log_p[at - 1, sequence.ids[at]]) for at in sequence.response)
            nll += terms / len(sequence.response) / (2 * len(encoded))
    assert figures["pair_loss"] == pytest.approx(pair_loss, rel=1e-4)
    assert figures["loss"] == pytest.approx(pair_loss + 0.7 * nll, rel=1e-4)


def test_a_stage_without_pair_loss_leaves_the_reward_head_alone():
    chat, network = network_of()
    encoded, _ = encode_pairs(pairs_with(**BY_HAND), chat, 500, Reading((), "critiques", REQUEST))
    head = network.classifier.score.weight.clone()
    body = network.lm_head.weight.clone()
    objective = Objective(bradley_terry, pair_weight=0.0, nll_weight=1.0)
    list(Trainer(network, objective, Training(learning_rate=1e-2)).train(encoded, 0))
    assert torch.equal(network.classifier.score.weight, head)
    assert not torch.equal(network.lm_head.weight, body)


def test_an_attribute_called_overall_does_not_replace_the_score():
    pairs = pairs_with(chosen_attributes={"overall": 1.0}, rejected_attributes={"overall": 5.0})
    encoded, _ = encode_pairs(pairs, tiny.chat(), 500, Reading(("overall",)))
    assert encoded[0].chosen_scores == (pairs[0].chosen_score,)


def test_an_empty_critique_supervises_nothing_where_a_turn_has_no_end():
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    chat = tiny.chat(template)
    pairs = pairs_with(chosen_critique="", rejected_critique="bad")
    encoded, _ = encode_pairs(pairs, chat, 500, Reading((), "critiques", REQUEST))
    assert all(s.response for pair in encoded for s in pair.supervised)
    assert len(encoded[0].supervised) == 1


def test_what_a_pair_lacks_is_named():
    chat = tiny.chat()
    with pytest.raises(TrainingError, match="no chosen_critique"):
        encode_pairs(tiny.pairs(), chat, 500, Reading(request=REQUEST))
    with pytest.raises(TrainingError, match="chosen_attributes with brevity"):
        encode_pairs(tiny.pairs(), chat, 500, Reading(("overall", "brevity")))
    with pytest.raises(TrainingError, match="Add chosen_score"):
        encode_pairs(pairs_with(chosen_score=None), chat, 500, Reading(("overall",)))


def test_pairs_weigh_as_their_source_says():
    chat, _ = network_of()
    for source in ("sampled", "labeled"):
        pairs = [p if p.source == "refined" else p.model_copy(update={"source": source}) for p in tiny.pairs()]
        config = parse_config({**CONFIG, "edit_aligned": {"annotated_weight": 0.3}})
        (stage,) = method_named("edit_aligned").stages(config)
        encoded, _ = encode_pairs(pairs, chat, 500, stage.reading)
        assert [e.weight for e in encoded] == [1.0 if p.source == "refined" else 0.3 for p in pairs]
