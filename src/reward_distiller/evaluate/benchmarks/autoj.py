"""Auto-J's pairwise test set (Li et al., 2024): people's preferences in 58 scenarios, in the paper's eight groups.

A pair that people called a tie is left out of the figures, as in the reports of the paper's agreement without ties.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.pairs import accuracy_of, by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores
from reward_distiller.evaluate.metrics import grouped
from reward_distiller.rows import Fields

GROUPS = {  # upstream: codes/leaderboard/utils_constants.py
    "summarization": "post_summarization text_summarization note_summarization",
    "exam_questions": "math_reasoning solving_exam_question_with_math solving_exam_question_without_math",
    "code": "code_simplification code_generation explaining_code code_correction_rewriting code_to_code_translation",
    "rewriting": "text_simplification language_polishing instructional_rewriting text_correction paraphrasing",
    "creative_writing": "writing_song_lyrics writing_social_media_post writing_blog_post writing_personal_essay "
    "creative_writing writing_advertisement writing_marketing_materials writing_presentation_script counterfactual",
    "functional_writing": "writing_product_description writing_job_application writing_news_article writing_biography "
    "writing_email writing_legal_document writing_technical_document writing_scientific_paper functional_writing "
    "writing_cooking_recipe",
    "general_communication": "asking_how_to_question open_question analyzing_general explaining_general "
    "seeking_advice recommendation value_judgement verifying_fact chitchat roleplay planning brainstorming",
    "nlp_tasks": "ranking text_to_text_translation data_analysis classification_identification title_generation "
    "question_generation reading_comprehension keywords_extraction information_extraction topic_modeling others",
}
GROUP_OF = {scenario: group for group, scenarios in GROUPS.items() for scenario in scenarios.split()}
ORDERS = {0: ("first", "second"), 1: ("second", "first"), 2: ("first", "second")}
TIE = 2


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(Fields(f.where, f.number, f.row, {"first": "response 1", "second": "response 2"})) for f in rows]


def _example(fields: Fields) -> Example:
    label, scenario = fields.require("label"), fields.require("scenario")
    if isinstance(label, bool) or not isinstance(label, int) or label not in ORDERS:
        raise fields.wrong("label", f"{label!r:.40} is no label", "Write 0 (response 1 is better), 1 or 2 (a tie)")
    if scenario not in GROUP_OF:
        raise fields.wrong("scenario", f"{scenario!r:.60} is no scenario of Auto-J", f"Write one of {len(GROUP_OF)}")
    better, worse = (fields.response(name) for name in ORDERS[label])
    return Example(
        f"{scenario}:{fields.number}",
        fields.prompt(),
        (better, worse),
        right=2 if label == TIE else 1,
        labels={"group": GROUP_OF[scenario], "scenario": scenario},
    )


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    groups = by_label(outcomes, "group")
    scenarios = grouped(accuracy_of(outcomes), {o.example.id: o.example.labels["scenario"] for o in outcomes})
    return Scores({**groups.metrics, **{f"scenario.{name}": m for name, m in scenarios.items()}}, groups.notes)


BENCHMARK = Benchmark(
    name="autoj",
    about="what people preferred, in 58 scenarios of eight groups",
    files=("testdata_pairwise.json*",),
    expects="scenario, label (0, 1, or 2 for a tie), prompt, 'response 1' and 'response 2'",
    read=read,
    metrics=metrics,
)
