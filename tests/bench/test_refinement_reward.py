"""RLfR's reward on the testbed."""

from bench.refinement_reward import minus_edits
from reward_distiller.testbed.language import World


def test_a_right_response_costs_nothing_and_each_wrong_word_its_share():
    world, whole, one_wrong = World(0), [], []
    for text in world.prompts(60, 0, "train", ["repeat", "reverse"]):
        items = [w for w in text.partition(": ")[2].split()]
        right = items if text.startswith("repeat") else items[::-1]
        wrong = ["iron" if at == 0 else w for at, w in enumerate(right)]
        responses = [" , ".join(right) + " .", " , ".join(wrong) + " ."]
        for values, response, value in zip(
            (whole, one_wrong), responses, minus_edits([{"role": "user", "content": text}], responses, {}), strict=True
        ):
            values.append(value * len(response.split()))
    assert sum(value == 0 for value in whole) > 45  # the teacher is misled at some
    assert sum(round(value) == -1 for value in one_wrong) > 40
    assert all(value <= 0 for value in whole + one_wrong)


def test_the_same_response_gets_the_same_reward():
    asked = [{"role": "user", "content": "repeat these words : plum iron"}]
    assert minus_edits(asked, ["plum .", "", "plum ."], {})[::2] == minus_edits(asked, ["plum ."], {}) * 2
