"""The store of top-k distributions: what goes in comes out, and a file that is not right is refused with its place."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from reward_distiller.errors import DataError, ModelError
from reward_distiller.model.chat import Encoded, response_key
from reward_distiller.model.regularizer import FullTeacher, LMHead, regularize
from reward_distiller.model.teacher_distributions import Header, TopKRows, TopKStore, fill_from_lm

MESSAGES = [{"role": "user", "content": "Name a bird."}]


class Vocabulary:
    def __init__(self, *tokens):
        self.tokens = tokens

    def get_vocab(self):
        return {token: identity for identity, token in enumerate(self.tokens)}


WORDS = Vocabulary("a", "robin", "wren", "<end>", "<pad>")
HEADER = Header.of("teacher", WORDS, max_k=3)


def rows():
    first = TopKRows.of(response_key(MESSAGES, "a robin"), [0, 1], [[(0, -0.1), (1, -3.0)], [(1, -0.5), (2, -1.0)]])
    second = TopKRows.of(response_key(MESSAGES, "wren"), [2], [[(1, -0.7), (2, -0.9), (3, -5.0)]])
    return [first, second]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "teacher.topk"
    TopKStore.write(path, HEADER, rows())
    return path


def test_rows_come_back_padded_with_what_has_no_mass(path):
    store = TopKStore.open(path)
    store.check_vocabulary(WORDS)
    assert len(store) == 2
    row = store.get(response_key(MESSAGES, "wren"), [2])
    assert row.padded().ids_TK.tolist() == [[1, 2, 3]]
    ragged = TopKRows.of("0" * 16, [0, 1], [[(0, -0.1)], [(1, -0.5), (2, -1.0)]]).padded()
    assert ragged.ids_TK.tolist() == [[0, 0], [1, 2]]
    assert torch.equal(ragged.log_p_TK, torch.tensor([[-0.1, -torch.inf], [-0.5, -1.0]]))


ENTRIES = st.lists(
    st.dictionaries(st.integers(0, 4), st.floats(-50, -1.75, width=32), min_size=1, max_size=3), min_size=0, max_size=4
)


@given(st.lists(ENTRIES, max_size=4))
def test_whatever_is_written_comes_back(tmp_path_factory, responses):
    path = tmp_path_factory.mktemp("store") / "teacher.topk"
    written = [
        TopKRows.of(response_key(MESSAGES, str(number)), [number] * len(tokens), [list(t.items()) for t in tokens])
        for number, tokens in enumerate(responses)
    ]
    TopKStore.write(path, HEADER, written)
    store = TopKStore.open(path)
    for row in reversed(written):
        found = store.get(row.key, row.target_T)
        for field in ("target_T", "start_T1", "id_N", "log_p_N"):
            assert np.array_equal(getattr(found, field), getattr(row, field)), field


def test_a_response_that_is_not_there_or_has_other_tokens_is_an_error(path):
    store = TopKStore.open(path)
    assert response_key(MESSAGES, "wren") in store
    assert response_key([], "wren") not in store
    with pytest.raises(DataError, match="no distributions for the response"):
        store.get(response_key([], "wren"))
    for targets in ([2, 3], [1], []):
        with pytest.raises(DataError, match=r"row 2, field 'target'.*Cache it again"):
            store.get(response_key(MESSAGES, "wren"), targets)


def test_another_vocabulary_is_explained_and_added_tokens_are_not(path):
    store = TopKStore.open(path)
    store.check_vocabulary(Vocabulary(*WORDS.tokens, "<|reward_pad|>"))
    store.check_vocabulary(Vocabulary(*WORDS.tokens[:4]))
    with pytest.raises(ModelError, match=r"2 of 5 tokens differ; id 1 is 'wren' for the student"):
        store.check_vocabulary(Vocabulary("a", "wren", "robin", "<end>", "<pad>"))
    with pytest.raises(ModelError, match="holds the token 3, and the student's last one is 2"):
        store.check_vocabulary(Vocabulary(*WORDS.tokens[:3]))


def damaged(path, name, change):
    tensors = load_file(path)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(size))["__metadata__"]
    if name in tensors:
        tensors[name] = change(tensors[name].copy())
    elif change is None:
        about.pop(name)
    else:
        about[name] = change
    save_file(tensors, path, about)


def put(at, value):
    def change(array):
        array[at] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("id", put(5, 5), r"row 2, field 'id': token 1 of the response: the token 5 of 5"),
        ("id", put(2, -1), r"row 1, field 'id': token 2 of the response: the token -1"),
        ("id", put(3, 1), r"row 1, field 'id': token 2 of the response: the token 1 twice"),
        ("log_p", put(0, 0.5), r"row 1, field 'log_p': token 1 of the response: a log-probability of 0.5"),
        ("log_p", put(4, np.nan), r"row 2, field 'log_p': .* nan"),
        ("log_p", put(4, -np.inf), r"row 2, field 'log_p': .* -inf"),
        ("log_p", put(1, -0.2), r"row 1, field 'log_p': .*probabilities sum to 1.7"),
        ("log_p", lambda a: a[:-1], "starts that rise"),
        ("log_p", lambda a: a.astype(np.float16), "holds the tensors .*float16"),
        ("target", put(2, 5), r"row 2, field 'target'"),
        ("target", lambda a: a[:-1], r"field 'row_start': not 3 starts that rise from 0 to 2"),
        ("token_start", put(1, 5), "field 'token_start': not 4 starts that rise"),
        ("token_start", put(1, -(2**62)), "field 'token_start': not 4 starts that rise"),
        ("token_start", put(1, 0), r"row 1, field 'token_start': token 1 of the response: 0 entries, not 1 to 3"),
        ("token_start", put(0, 1), "field 'token_start'"),
        ("row_start", put(1, 9), "field 'row_start'"),
        ("key", put(1, 0), None),
        ("key", lambda a: a[[0, 0]], "a response stands twice"),
        ("max_k", "2", r"row 2, field 'token_start': .*3 entries, not 1 to 2"),
        ("width", "x", "its header cannot be read"),
        ("width", "-1", "its header cannot be read"),
        ("version", "2", "version '2', not .* version '1'"),
        ("temperature", "0.7", "field 'temperature'"),
        ("model", None, "its header cannot be read"),
        ("format", None, "holds None version"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(path, name, change, message):
    damaged(path, name, change)
    if message is None:
        assert len(TopKStore.open(path)) == 2
        return
    with pytest.raises(DataError, match=message) as error:
        TopKStore.open(path)
    assert str(path) in str(error.value)


def test_a_truncated_or_foreign_or_missing_file_is_refused(path):
    whole = path.read_bytes()
    for kept in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match="cannot be read as safetensors"):
            TopKStore.open(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(DataError, match="holds None"):
        TopKStore.open(path)
    for missing in (path.with_name("none"), path.parent):
        with pytest.raises(DataError, match="cannot be read as safetensors"):
            TopKStore.open(missing)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id_N": np.array([2**32, 1, 2])}, "the token 4294967296"),
        ({"log_p_N": np.array([0.1, -9, -9])}, "a log-probability of 0.1"),
        ({"log_p_N": np.array([-1.0])}, "targets, starts, ids, log_p of"),
        ({"key": "bird"}, "Make keys with response_key"),
        ({"key": rows()[0].key}, "twice"),
    ],
)
def test_what_cannot_be_read_is_not_written(path, change, message):
    before = path.read_bytes()
    first, second = rows()
    with pytest.raises(DataError, match=message):
        TopKStore.write(path, HEADER, [first, dataclasses.replace(second, **change)])
    assert path.read_bytes() == before


def test_a_certainty_that_rounding_puts_above_1_is_0(tmp_path):
    row = TopKRows.of("0" * 16, [0], [[(0, 2e-7)]])
    TopKStore.write(tmp_path / "store", HEADER, [row])
    assert TopKStore.open(tmp_path / "store").get("0" * 16).log_p_N.tolist() == [0.0]


def test_a_local_lm_fills_the_store_with_what_it_predicts(tmp_path):
    """With k the whole vocabulary, the cached KL is the KL with the teacher at hand; with k = 4, its top."""
    chat = tiny.chat()
    size = len(chat.tokenizer)
    teacher, student = tiny.tiny_lm(size, seed=1).eval(), tiny.tiny_lm(size, seed=2).eval()
    sequences = {
        response_key(MESSAGES, text): chat.encode(MESSAGES, text, supervised=True) for text in ("A wren.", "robin")
    }
    for k in (4, size):
        header = Header.of("tiny", chat.tokenizer, k)
        TopKStore.write(tmp_path / "store", header, fill_from_lm(teacher, sequences.items(), k))
        store = TopKStore.open(tmp_path / "store")
        store.check_vocabulary(chat.tokenizer)
        for key, sequence in sequences.items():
            ids, span = torch.tensor([sequence.ids]), sequence.response
            cached = store.get(key, sequence.ids[span.start : span.stop]).padded()
            with torch.no_grad():
                log_p = teacher(input_ids=ids).logits[0, span.start - 1 : span.stop - 1].log_softmax(-1)
                at_hand, hidden = (
                    lm.base_model(input_ids=ids).last_hidden_state[0, span.start - 1 : span.stop - 1]
                    for lm in (teacher, student)
                )
                torch.testing.assert_close(cached.log_p_TK, log_p.topk(k).values)
                torch.testing.assert_close(log_p.gather(1, cached.ids_TK), cached.log_p_TK)
                head = LMHead.of(student.get_output_embeddings())
                target, weight = ids[0, span.start : span.stop], torch.ones(len(span))
                online = FullTeacher(at_hand, LMHead.of(teacher.get_output_embeddings()))
                full, top = (regularize(hidden, target, weight, head, t).kl.item() for t in (online, cached))
            assert top == pytest.approx(full, abs=1e-4) if k == size else 0 < top < full


def test_an_lm_that_scales_its_logits_is_refused():
    scaled = tiny.tiny_lm(50, "Granite", logits_scaling=4.0)
    with pytest.raises(ModelError, match="are not its LM head's"):
        list(fill_from_lm(scaled, [("0" * 16, Encoded((1, 2, 3), range(1, 3)))], 5))
