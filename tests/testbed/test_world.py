"""The testbed's own sanity: what trivial scorers get in its world, and what its models do."""

import random

import pytest

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.style_matrix import style_accuracy
from reward_distiller.teacher.completion import read_completion
from reward_distiller.testbed.benchmark import style_items
from reward_distiller.testbed.language import STYLES, TASKS, USUAL, World
from reward_distiller.testbed.models import CANDIDATES, reply


def accuracies(score, count=600):
    items = style_items(World(0), count, seed=3)
    figures = style_accuracy(items, lambda rows: [[score(p, r) for r in rs] for p, rs in rows])
    return {name: figure.value for name, figure in figures.items()}


def test_length_only_is_100_50_0():
    found = accuracies(lambda prompt, response: len(response))
    assert found["easy"] > 99
    assert found["normal"] == pytest.approx(50, abs=8)
    assert found["hard"] < 1


def test_random_is_50():
    rng = random.Random(0)
    found = accuracies(lambda prompt, response: rng.random(), count=2000)
    assert all(value == pytest.approx(50, abs=3) for value in found.values())


def test_the_truth_is_100():
    world = World(0)
    found = accuracies(lambda prompt, response: world.quality(prompt.messages[-1].content, response))
    assert set(found.values()) == {100.0}


def test_quality_is_graded_and_blind_to_style():
    world, rng = World(0, TASKS), random.Random(0)
    seen = set()
    for text in world.prompts(200, 0, "train"):
        task = world.read(text)
        items = world.right_items(task, rng)
        seen.add(task.kind)
        for wrong in range(len(items) + 1):
            if wrong:
                items[wrong - 1] = world.wrong_item(task, items, wrong - 1, rng)
            for style in STYLES:
                assert world.quality(text, world.respond(task, items, style, rng)) == pytest.approx(
                    1 - wrong / task.count
                )
    assert seen == set(TASKS)


def test_how_many_are_here_is_asked_where_it_is_a_task():
    usual, counting = World(0), World(0, TASKS)
    assert {usual.read(text).kind for text in usual.prompts(300, 0, "train")} == set(USUAL)
    assert set(counting.vocabulary()) - set(usual.vocabulary()) == {"how"}
    with pytest.raises(ConfigError, match=r"no task count\. Add it to testbed\.tasks"):
        usual.prompts(5, 0, "train", ["count"])
    text = "how many animals are here : plum fox otter heron tin"
    assert counting.quality(text, "certainly ! \n * three \n please ask me again .") == 1
    for wrong in ("two .", "three , three .", "fox .", ""):
        assert counting.quality(text, wrong) < 1
    for unanswerable in ("how many animals are here : plum fox", "how many words are here : plum", "how many "):
        assert counting.read(unanswerable) is None


def test_test_prompts_are_never_training_prompts():
    world = World(0)
    training = {p for seed in range(5) for p in world.prompts(3000, seed, "train")}
    assert not training & {p for seed in range(5) for p in world.prompts(500, seed, "test")}


def test_hostile_text_has_no_quality():
    world = World(0)
    prompt = world.prompts(1, 0, "test")[0]
    for text in ("", "\n" * 1000, "<script>", "plum " * 100_000, "\u202e" * 10):
        assert 0 <= world.quality(prompt, text) < 0.5
    assert world.quality("no prompt of this world", "plum") == 0


def teach(prompt, first, second, seed, **options):
    parts = {"question": prompt, "response_1": first, "response_2": second}
    text = "\n".join(f"<{tag}>\n{value}\n</{tag}>" for tag, value in parts.items())
    request = {"model": "teacher", "messages": [{"role": "user", "content": text}], "sample": seed}
    answer = read_completion(reply(request | {"testbed": {"garble": 0.0, **options}})).text
    return [int(x) for x in answer.split()]


def flips(world, wrong_items, **options):
    """Share of pairs, one side with so many wrong items, in which the teacher prefers that side."""
    rng, lost, count = random.Random(1), 0, 0
    for number, prompt in enumerate(world.prompts(400, 1, "train")):
        task = world.read(prompt)
        right = world.right_items(task, rng)
        if len(right) <= wrong_items:
            continue
        wrong = list(right)
        for at in range(wrong_items):
            wrong[at] = world.wrong_item(task, wrong, at, rng)
        style = options.pop("styles", ("concise", "concise"))
        good, bad = world.respond(task, right, style[0], rng), world.respond(task, wrong, style[1], rng)
        scores = teach(prompt, good, bad, number, **options)
        lost += scores[0] < scores[1]
        count += 1
        options["styles"] = style
    return lost / count


def test_noise_flips_close_pairs_most():
    world = World(0)
    assert flips(world, 1, noise=2.5) > flips(world, 2, noise=2.5) + 0.02


def test_biases_can_be_set():
    world = World(0)
    prompt = world.prompts(1, 0, "train")[0]
    task = world.read(prompt)
    rng = random.Random(0)
    items = world.right_items(task, rng)
    items[0] = world.wrong_item(task, items, 0, rng)
    short, long = (world.respond(task, items, style, rng) for style in ("concise", "formatted"))
    still = {"noise": 0.0, "position_bias": 0.0}
    assert (
        teach(prompt, short, long, 0, verbosity_bias=0.0, **still)[0]
        == teach(prompt, short, long, 0, verbosity_bias=0.0, **still)[1]
    )
    assert teach(prompt, short, long, 0, verbosity_bias=2.0, **still)[1] == (
        teach(prompt, short, long, 0, verbosity_bias=0.0, **still)[1] + 2
    )
    first, second = teach(prompt, short, short, 0, noise=0.0, verbosity_bias=0.0, position_bias=2.0)
    assert first == second + 2


def test_style_goes_with_skill_only_while_the_bias_is_on():
    world = World(0)

    def mean_length(name, bias):
        lengths = []
        for prompt in world.prompts(200, 0, "train"):
            request = {
                "model": name,
                "messages": [{"role": "user", "content": prompt}],
                "testbed": {"style_bias": bias},
            }
            lengths.append(len(read_completion(reply(request)).text))
        return sum(lengths) / len(lengths)

    ordered = [mean_length(name, 1.0) for name in CANDIDATES]
    assert ordered == sorted(ordered)
    assert ordered[-1] > 1.5 * ordered[0]
    level = [mean_length(name, 0.0) for name in CANDIDATES]
    assert max(level) < 1.15 * min(level)
