"""Chat templates that are wrong on purpose, each found for what is wrong with it."""

import pytest
import tiny
from tokenizers import processors

from reward_distiller.recipes.doctor.template import check_template

TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
END = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
LOOP = f"{{% for m in messages %}}{TURN}{{% endfor %}}"
# Mistral's way: the user's turn ends in what opens the answer, with nothing left for a generation prompt to add.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def found(template, **special):
    return list(check_template("template", tiny.byte_tokenizer(template, **special)))


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.WITH_BOS, INST])
def test_a_sane_template_is_one_line(template):
    (one,) = found(template, bos_token="<s>", eos_token="</s>")
    assert one.level == "ok"


@pytest.mark.parametrize(
    ("template", "level", "said"),
    [
        ("{{ bos_token }}{{ bos_token }}" + LOOP + END, "problem", "two BOS"),
        (LOOP, "problem", "no generation prompt"),
        (LOOP + "{% if add_generation_prompt %}{{ 'Answer: ' }}{% endif %}", "problem", "otherwise once it has"),
        ("{{ messages | length }}" + LOOP + END, "problem", "otherwise once it has"),
        ("{{ strftime_now('%d %b %Y') }}" + LOOP + END, "warning", "today's date"),
        ("{{ 'Today: 3 March 2025\n' }}" + LOOP + END, "warning", "a date into every chat (3 March 2025)"),
        ("{{ 'As of 2024-07-26\n' }}" + LOOP + END, "warning", "(2024-07-26)"),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + LOOP + END,
            "warning",
            "with a system turn",
        ),
        ("{{ 'constant' }}", "problem", "leaves the response out"),
        ("{{ messages.nothing.at.all }}", "problem", "cannot render"),
        (None, "problem", "no chat template"),
    ],
)
def test_what_is_wrong_is_named(template, level, said):
    lines = found(template, bos_token="<s>", eos_token="</s>")
    assert any(f.level == level and said in f.found for f in lines), lines


def test_a_bos_that_only_plain_text_gets_is_a_warning():
    tokenizer = tiny.byte_tokenizer(tiny.CHATML, bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    (one,) = check_template("template", tokenizer)
    assert one.level == "warning"
    assert "writes no BOS" in one.found
