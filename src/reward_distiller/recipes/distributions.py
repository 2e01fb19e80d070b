"""A teacher's top-k distributions over its responses, in the one file that training reads: from a local LM, from a vLLM
server that is given the responses, or from what the teacher said with its own.

Rows are encoded as the student will read them. What a server says is taken where its tokens are the student's, and
otherwise the response has no distribution, which is counted. Knows no training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_distiller.config import ChatModel, Config, Refined, Sampling, fill_data_folder
from reward_distiller.console import say, track
from reward_distiller.construct.candidates import candidate_questions
from reward_distiller.construct.load import load_pairs
from reward_distiller.errors import CallsFailed, DataError
from reward_distiller.files import read_rows
from reward_distiller.model.chat import ChatFormat, Encoded, load_chat, load_tokenizer
from reward_distiller.model.loading import device_of, load_teacher_lm
from reward_distiller.model.teacher_distributions import Header, TopKRows, TopKStore, fill_from_lm
from reward_distiller.model.teachers import check_vocabularies
from reward_distiller.model.token_ids import TokenIds
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.ledger import Ledger, LedgerReader
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for, read_answer
from reward_distiller.teacher.token_chances import Place, given_tokens, written_tokens

STEP = "prepare: distributions"


@dataclass(frozen=True)
class Responses:
    """Distinct teacher responses of some pairs, by the key that a store knows them by."""

    encoded: dict[str, Encoded]
    said: dict[str, tuple[Prompt, str]]

    @classmethod
    def of(cls, pairs: Sequence[Pair], chat: ChatFormat) -> Responses:
        made = cls({}, {})
        for pair in pairs:
            if pair.teacher_response is not None:
                encoded = chat.encode(pair.prompt.as_dicts(), pair.teacher_response, supervised=True)
                made.encoded[encoded.key] = encoded
                made.said[encoded.key] = (pair.prompt, pair.teacher_response)
        return made


def cache_distributions(
    pairs: str, teacher: str, student: str, output: str, k: int, chat_template: str | None, device: str | None
) -> int:
    """Write the store for every distinct teacher response among the pairs, from a local LM; give their number.

    Raises DataError where no pair has one, ModelError where the two vocabularies differ.
    """
    chat = load_chat(student, template=chat_template and fill_data_folder(chat_template))
    check_vocabularies(chat.tokenizer, load_tokenizer(teacher), teacher)
    responses = _read(pairs, chat).encoded
    lm = load_teacher_lm(teacher, device_of(device))
    width = lm.get_output_embeddings().weight.shape[0]
    with track("distributions", len(responses)) as advance:

        def rows() -> Iterator[TopKRows]:
            for row in fill_from_lm(lm, responses.items(), k):
                advance()
                yield row

        TopKStore.write(output, Header.of(teacher, chat.tokenizer, k, width), rows())
    return len(responses)


def ask_distributions(
    pairs: str, model: ChatModel, student: str, output: str, k: int, chat_template: str | None, parts: Parts
) -> int:
    """The same from a vLLM server of the teacher, which reads each chat whole and gives `prompt_logprobs`.

    Its chat template and tokenizer must be the student's. Each answer is in the ledger beside the output, so that none
    is bought twice. Raises DataError where a response has other tokens there, CallsFailed where one has no answer.
    """
    chat = load_chat(student, template=chat_template and fill_data_folder(chat_template))
    responses = _read(pairs, chat)
    model = model.model_copy(update={"sampling": Sampling(temperature=1.0, max_tokens=1)})
    fields = {"prompt_logprobs": k, "add_generation_prompt": False}
    questions = [
        Question(key, [*prompt.as_dicts(), {"role": "assistant", "content": text}], str, fields, reads_cut=True)
        for key, (prompt, text) in responses.said.items()
    ]
    ids, rows = TokenIds(chat.tokenizer), []
    with open_engine(Path(output).parent / "ledger.sqlite", parts.transports) as engine:
        outcomes = engine.ask(parts.chat_model(model), STEP, questions)
        for question in questions:
            outcome = outcomes[question.id]
            if not isinstance(outcome, Answer):
                raise CallsFailed(f"{STEP}: the response {question.id}: {outcome.summary}. Run again to ask only those")
            stored = engine.ledger.get(ask_for(model, question, 0).key)
            encoded = responses.encoded[question.id]
            row = _of_prompt(ids, encoded, (stored and given_tokens(stored.body)) or [])
            if row is None:
                raise DataError(
                    pairs,
                    f"the response {question.id} has other tokens at {model.base_url} than for the student, or no "
                    "probabilities",
                    mend="Serve a teacher with the student's tokenizer and chat template, by vLLM",
                )
            rows.append(row)
    TopKStore.write(output, Header.of(model.model, chat.tokenizer, max(row.max_k for row in rows)), rows)
    return len(rows)


def keep_distributions(file: Path, config: Config, parts: Parts, chat: ChatFormat, pairs: Sequence[Pair]) -> None:
    """Write what the teacher said of its own responses' tokens, out of the run's ledger; say for how many it did."""
    own = config.of_method
    assert isinstance(own, Refined)
    assert config.teacher is not None
    teacher = parts.chat_model(config.teacher)
    responses, ids, rows = Responses.of(pairs, chat), TokenIds(chat.tokenizer), []
    with Ledger.read(config.ledger_path) as ledger:
        for key, (prompt, text) in responses.said.items():
            places = _said_with(ledger, teacher, prompt, text, own.reference_fields)
            if row := ids.rows(responses.encoded[key], *_apart(places)):
                rows.append(row)
    most = max((row.max_k for row in rows), default=1)  # a server may give more than it was asked for
    TopKStore.write(file, Header.of(teacher.model, chat.tokenizer, most), rows)
    say(
        f"{file.name}: {len(rows)} of {len(responses.said)} teacher responses have distributions over the student's "
        "tokens; for the others the KL is the NLL"
    )


def _read(pairs: str, chat: ChatFormat) -> Responses:
    loaded, balance = load_pairs(pairs, read_rows(pairs), {}, scored=False)
    say(balance.line())
    responses = Responses.of(loaded, chat)
    if not responses.said:
        raise DataError(Path(pairs), "no row has a teacher's response", field="teacher_response", mend="Add them")
    return responses


def _said_with(
    ledger: LedgerReader, teacher: ChatModel, prompt: Prompt, text: str, fields: Mapping[str, object]
) -> list[Place]:
    """The tokens of the answer that became the response; none where the teacher was not asked for it."""
    [question] = candidate_questions([prompt], fields)
    for number in range(teacher.max_asks):
        stored = ledger.get(ask_for(teacher, question, number).key)
        if stored is None:
            break
        answer = read_answer(teacher, question, stored.body)
        if isinstance(answer, Answer) and answer.value == text:
            return written_tokens(stored.body) or []
    return []


def _of_prompt(ids: TokenIds, response: Encoded, places: Sequence[Place]) -> TopKRows | None:
    """Of a chat that a server read whole: its tokens up to the response's end must be the student's."""
    start, stop = response.response.start, response.response.stop
    read = places[: stop - 1]  # the first token of the chat has no place
    if [ids.id(place.token) for place in read] != list(response.ids[1:stop]):
        return None
    return ids.rows(response, *_apart(read[start - 1 :]))


def _apart(places: Sequence[Place]) -> tuple[list[str | int], list[tuple[tuple[str | int, float], ...]]]:
    return [place.token for place in places], [place.top for place in places]
