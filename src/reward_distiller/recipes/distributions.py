"""A teacher's top-k distributions over its responses, computed once with a local LM and kept in a file.

For a teacher that does not fit beside the student while training: `rm_distiller.kl_store` names the file.
Rows are encoded as the student will read them. Knows no training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reward_distiller.config import fill_data_folder
from reward_distiller.console import say, track
from reward_distiller.construct.load import load_pairs
from reward_distiller.errors import DataError
from reward_distiller.files import read_rows
from reward_distiller.model.chat import Encoded, load_chat, load_tokenizer
from reward_distiller.model.loading import device_of, load_teacher_lm
from reward_distiller.model.teacher_distributions import Header, TopKRows, TopKStore, fill_from_lm
from reward_distiller.model.teachers import check_vocabularies


def cache_distributions(
    pairs: str, teacher: str, student: str, output: str, k: int, chat_template: str | None, device: str | None
) -> int:
    """Write the store for every distinct teacher response among the pairs; give their number.

    Raises DataError where no pair has one, ModelError where the two vocabularies differ.
    """
    chat = load_chat(student, template=chat_template and fill_data_folder(chat_template))
    check_vocabularies(chat.tokenizer, load_tokenizer(teacher), teacher)
    loaded, balance = load_pairs(pairs, read_rows(pairs), {}, scored=False)
    say(balance.line())
    responses: dict[str, Encoded] = {}
    for pair in loaded:
        if pair.teacher_response is not None:
            encoded = chat.encode(pair.prompt.as_dicts(), pair.teacher_response, supervised=True)
            responses[encoded.key] = encoded
    if not responses:
        raise DataError(Path(pairs), "no row has a teacher's response", field="teacher_response", mend="Add them")
    lm = load_teacher_lm(teacher, device_of(device))
    width = lm.get_output_embeddings().weight.shape[0]
    with track("distributions", len(responses)) as advance:

        def rows() -> Iterator[TopKRows]:
            for row in fill_from_lm(lm, responses.items(), k):
                advance()
                yield row

        TopKStore.write(output, Header.of(teacher, chat.tokenizer, k, width), rows())
    return len(responses)
