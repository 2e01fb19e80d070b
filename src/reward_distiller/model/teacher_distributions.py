"""Cached distributions of the teacher: its k most probable tokens at every token of its responses, in one file.

What the KL of generative regularization (paper, equation 4) needs of a teacher that is not at hand while training.
A safetensors file, written whole or not at all, checked whole when opened and read row by row. A row is a response: the
token ids that were supervised, and for each of them k token ids with log-probabilities at temperature 1; k may differ
from token to token. Log-probabilities are fp32: fp16 shifts a token's KL by more than 1e-4 (`bench/topk_study.py`).
Knows no endpoints and no losses. Shapes: N entries of all tokens, T tokens, K top-k.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reward_distiller.errors import DataError, ModelError
from reward_distiller.files import write_bytes
from reward_distiller.model.chat import Encoded
from reward_distiller.model.regularizer import CHUNK_LOGITS, EXCESS, LMHead, TopK
from reward_distiller.records import canonical_json

FORMAT, VERSION = "reward-distiller top-k distributions", "1"
CHECKED = 2**22  # entries looked at at once when a file is opened
TENSORS = {
    "key": (torch.uint8, 2),  # rows, 8 bytes of the response's id
    "row_start": (torch.int64, 1),  # rows + 1, in tokens
    "target": (torch.int32, 1),  # tokens
    "token_start": (torch.int64, 1),  # tokens + 1, in entries
    "id": (torch.int32, 1),  # entries
    "log_p": (torch.float32, 1),  # entries, nats
    "vocabulary": (torch.uint32, 1),  # token ids
}
AGAIN = "Write the file again"


@dataclass(frozen=True)
class Header:
    """What a file's distributions are over. Token ids are below `width`, which counts padding rows of logits too."""

    model: str
    fingerprint: str  # SHA-256 of the tokenizer's token -> id map
    width: int
    max_k: int
    vocabulary: np.ndarray  # a checksum of each id's token, so that a mismatch can be explained

    @classmethod
    def of(cls, model: str, tokenizer: Any, max_k: int, width: int = 0) -> Header:
        vocabulary = tokenizer.get_vocab()
        checksums = _checksums(vocabulary)
        return cls(model, vocabulary_fingerprint(vocabulary), max(len(checksums), width), max_k, checksums)


@dataclass(frozen=True)
class TopKRows:
    """One response: its supervised tokens, and each one's entries from `start_T1[t]` to `start_T1[t + 1]`."""

    key: str
    target_T: np.ndarray
    start_T1: np.ndarray
    id_N: np.ndarray
    log_p_N: np.ndarray

    @classmethod
    def of(cls, key: str, targets: Sequence[int], entries: Sequence[Sequence[tuple[int, float]]]) -> TopKRows:
        """From (token id, log-probability) by token, as endpoints give them."""
        flat = [entry for token in entries for entry in token]
        return cls(
            key,
            np.array(targets, np.int32),
            np.cumsum([0, *map(len, entries)], dtype=np.int64),
            np.array([identity for identity, _ in flat], np.int64),
            np.array([log_p for _, log_p in flat], np.float32),
        )

    def __len__(self) -> int:
        return len(self.target_T)

    @property
    def max_k(self) -> int:
        return int(np.diff(self.start_T1).max(initial=0))

    def padded(self) -> TopK:
        """(T, K) with K the largest k of this response, padded with log_p = -inf at the end."""
        k_T = np.diff(self.start_T1)
        real_TK = np.arange(max(k_T, default=0)) < k_T[:, None]
        ids_TK, log_p_TK = np.zeros(real_TK.shape, np.int64), np.full(real_TK.shape, -np.inf, np.float32)
        ids_TK[real_TK], log_p_TK[real_TK] = self.id_N, self.log_p_N
        return TopK(torch.from_numpy(ids_TK), torch.from_numpy(log_p_TK))


class TopKStore:
    """A file of top-k distributions, open for reading."""

    def __init__(self, path: Path, header: Header, tensors: dict[str, np.ndarray]):
        self.path, self.header, self._tensors = path, header, tensors
        self._row = {bytes(key).hex(): row for row, key in enumerate(tensors["key"])}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: str) -> bool:
        return key in self._row

    def get(self, key: str, targets: Sequence[int] | None = None) -> TopKRows:
        """The row of a response. Raises DataError where there is none, or not of the tokens to be supervised."""
        if key not in self._row:
            raise DataError(self.path, f"no distributions for the response {key}", mend="Cache this response too")
        row = self._row[key]
        first, stop = self._tensors["row_start"][row : row + 2]
        start_T1 = self._tensors["token_start"][first : stop + 1]
        target_T = self._tensors["target"][first:stop]
        if targets is not None and target_T.tolist() != list(targets):
            raise DataError(
                self.path,
                f"the response {key} has {len(target_T)} tokens here and {len(targets)} in training, or others",
                row=row + 1,
                field="target",
                mend="Cache it again with the tokenizer and chat template of the student",
            )
        id_N, log_p_N = (self._tensors[name][start_T1[0] : start_T1[-1]] for name in ("id", "log_p"))
        return TopKRows(key, target_T, start_T1 - start_T1[0], id_N, log_p_N)

    def check_vocabulary(self, tokenizer: Any) -> None:
        """Raise ModelError unless the tokenizer has the tokens of this file, but for ones added after the last id."""
        ours = tokenizer.get_vocab()
        if vocabulary_fingerprint(ours) == self.header.fingerprint:
            return
        here, there = _checksums(ours), self.header.vocabulary
        shared = min(len(here), len(there))
        wrong = np.flatnonzero(here[:shared] != there[:shared])
        if len(wrong):
            names = {identity: token for token, identity in ours.items()}
            raise ModelError(
                f"{self.path}: the teacher {self.header.model} has another vocabulary than the student "
                f"({len(wrong)} of {shared} tokens differ; id {wrong[0]} is {names.get(int(wrong[0]))!r} for the "
                "student only). Cache a teacher of the student's family, or train without the KL term"
            )
        most = int(self._tensors["id"].max(initial=0))
        if most >= len(here):
            raise ModelError(
                f"{self.path}: holds the token {most}, and the student's last one is {len(here) - 1}. Take the "
                "student's tokenizer of the same version as the teacher's"
            )

    @staticmethod
    def open(path: str | Path) -> TopKStore:
        """Raises DataError for a file that is not whole, of another version, or holds what is no distribution."""
        path = Path(path)
        try:
            file: Any = safe_open(path, framework="pt")  # torch maps the file into memory; numpy would copy it
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise DataError(path, f"cannot be read as safetensors ({error})", mend=AGAIN) from error
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            found = f"{about.get('format')!r} version {about.get('version')!r}"
            raise DataError(path, f"holds {found}, not {FORMAT!r} version {VERSION!r}", mend=AGAIN)
        if about.get("temperature") != "1":
            mend = "Cache distributions at temperature 1"
            raise DataError(path, "not sampled at 1", field="temperature", mend=mend)
        if {name: (t.dtype, t.ndim) for name, t in tensors.items()} != TENSORS:
            shapes = {name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()}
            raise DataError(path, f"holds the tensors {shapes}", mend=AGAIN)
        try:
            sizes = int(about["width"]), int(about["max_k"])
            if not 0 < sizes[0] <= 2**31 or sizes[1] < 1:
                raise ValueError(f"width and max_k of {sizes}")
            header = Header(about["model"], about["fingerprint"], *sizes, tensors["vocabulary"].numpy())
        except (KeyError, ValueError) as error:
            raise DataError(path, f"its header cannot be read ({error!r})", mend=AGAIN) from error
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        _check(path, header, arrays)
        return TopKStore(path, header, arrays)

    @staticmethod
    def write(path: str | Path, header: Header, rows: Iterable[TopKRows]) -> None:
        """One file of all rows. Raises DataError for what `open` would refuse, FileError where it cannot be written."""
        rows, path = list(rows), Path(path)
        tokens = [np.diff(row.start_T1) for row in rows]
        for number, row in enumerate(rows, 1):
            if len(row.start_T1) != len(row.target_T) + 1 or not len(row.id_N) == len(row.log_p_N) == row.start_T1[-1]:
                lengths = [len(row.target_T), len(row.start_T1), len(row.id_N), len(row.log_p_N)]
                raise DataError(path, f"targets, starts, ids, log_p of {lengths}", row=number, mend="Give all or none")
            if not re.fullmatch("[0-9a-f]{16}", row.key):
                raise DataError(path, f"the key {row.key!r}", row=number, mend="Make keys with response_key()")
        tensors: dict[str, np.ndarray] = {
            "key": np.array([list(bytes.fromhex(row.key)) for row in rows], np.uint8).reshape(len(rows), 8),
            "row_start": np.cumsum([0, *map(len, rows)], dtype=np.int64),
            "target": np.concatenate([np.zeros(0, np.int32), *(row.target_T for row in rows)]),
            "token_start": np.cumsum(np.concatenate([np.zeros(1, np.int64), *tokens]), dtype=np.int64),
            "id": np.concatenate([np.zeros(0, np.int32), *(row.id_N for row in rows)]),
            "log_p": np.concatenate([np.zeros(0, np.float32), *(row.log_p_N for row in rows)]).astype(np.float32),
            "vocabulary": header.vocabulary,
        }
        positive = tensors["log_p"] > 0  # a certainty, rounded; more is refused
        tensors["log_p"][positive & (tensors["log_p"] <= EXCESS)] = 0
        _check(path, header, tensors)
        tensors |= {name: tensors[name].astype(np.int32) for name in ("id", "target")}  # checked: they fit
        about = {"format": FORMAT, "version": VERSION, "temperature": "1", "model": header.model}
        about |= {"fingerprint": header.fingerprint, "width": str(header.width), "max_k": str(header.max_k)}
        write_bytes(path, _same_bytes(save(tensors, about)))


def _same_bytes(file: bytes) -> bytes:
    """A safetensors file with its header in one order: as written, it is another one in each process."""
    length = int.from_bytes(file[:8], "little")
    header = canonical_json(json.loads(file[8 : 8 + length])).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[8 + length :]


def fill_from_lm(lm: Any, sequences: Iterable[tuple[str, Encoded]], k: int) -> Iterator[TopKRows]:
    """Rows of (key, sequence), one forward pass each: the LM's k most probable tokens at every supervised token."""
    head = lm_head_of(lm)
    width, device = len(head.weight_VD), head.weight_VD.device
    with torch.no_grad():
        for key, sequence in sequences:
            ids_NL, span = torch.tensor([sequence.ids], device=device), sequence.response
            hidden_LD = lm.base_model(input_ids=ids_NL, use_cache=False).last_hidden_state[0]
            hidden_TD = hidden_LD[span.start - 1 : span.stop - 1]  # the hidden state at t - 1 predicts the token at t
            parts = hidden_TD.split(max(1, CHUNK_LOGITS // width))
            top = [head.log_p(part_CD).topk(min(k, width)) for part_CD in parts]
            yield TopKRows(
                key,
                np.array(sequence.ids[span.start : span.stop], np.int32),
                np.arange(len(span) + 1, dtype=np.int64) * min(k, width),
                torch.cat([chunk.indices for chunk in top]).flatten().cpu().numpy(),
                torch.cat([chunk.values for chunk in top]).flatten().cpu().numpy(),
            )


def lm_head_of(lm: Any) -> LMHead:
    """A causal LM's head, checked to make the LM's own logits: some models scale them on the way. Raises ModelError."""
    head = LMHead.of(lm.get_output_embeddings(), getattr(lm.config, "final_logit_softcapping", None))
    ids_NL = torch.arange(4, device=head.weight_VD.device)[None]
    with torch.no_grad():
        own = lm(input_ids=ids_NL).logits[0]
        ours = head.log_p(lm.base_model(input_ids=ids_NL, use_cache=False).last_hidden_state[0])
    if not torch.allclose(own.float().log_softmax(-1), ours, atol=0.05):  # bf16 is this coarse; a scale is not
        raise ModelError(
            f"the logits of {type(lm).__name__} are not its LM head's. Use a model that does not scale them"
        )
    return head


def vocabulary_fingerprint(vocabulary: dict[str, int]) -> str:
    return hashlib.sha256(canonical_json(vocabulary).encode("utf-8", "surrogatepass")).hexdigest()


def _checksums(vocabulary: dict[str, int]) -> np.ndarray:
    checksums = np.zeros(max(vocabulary.values()) + 1, np.uint32)
    for token, identity in vocabulary.items():
        checksums[identity] = zlib.crc32(token.encode("utf-8", "surrogatepass"))
    return checksums


def _check(path: Path, header: Header, tensors: dict[str, np.ndarray]) -> None:
    """Raise DataError for the first row that is no response with a distribution at each token."""
    key, target, row_start, token_start = (tensors[n] for n in ("key", "target", "row_start", "token_start"))
    entries = len(tensors["id"])
    if key.shape[1] != 8 or len({bytes(k) for k in key}) != len(key):
        raise DataError(path, "a response stands twice", field="key", mend="Write each response once")
    for name, start, rows, end in (
        ("row_start", row_start, len(key), len(target)),
        ("token_start", token_start, len(target), entries),
    ):
        whole = len(start) == rows + 1 and start[0] == 0 and start[-1] == end and (start[1:] >= start[:-1]).all()
        if not whole or entries != len(tensors["log_p"]):
            raise DataError(path, f"not {rows + 1} starts that rise from 0 to {end}", field=name, mend=AGAIN)

    def fail(token: int, field: str, problem: str, mend: str) -> NoReturn:
        row = int(np.searchsorted(row_start, token, "right"))
        problem = f"token {token - row_start[row - 1] + 1} of the response: {problem}"
        raise DataError(path, problem, row=row, field=field, mend=mend)

    k_T = np.diff(token_start)
    for token in np.flatnonzero((k_T < 1) | (k_T > header.max_k))[:1]:
        fail(token, "token_start", f"{k_T[token]} entries, not 1 to {header.max_k}", "Ask for top log-probabilities")
    for token in np.flatnonzero((target < 0) | (target >= header.width))[:1]:
        fail(token, "target", f"the token {target[token]} of {header.width}", "Use the tokenizer of the header")
    first = 0
    while first < len(target):
        last = max(first + 1, int(np.searchsorted(token_start, token_start[first] + CHECKED, "right")) - 1)
        start = token_start[first : last + 1] - token_start[first]
        id_N, log_p_N = (tensors[name][token_start[first] : token_start[last]] for name in ("id", "log_p"))
        token_N = np.repeat(np.arange(first, last), np.diff(start))
        for at in np.flatnonzero((id_N < 0) | (id_N >= header.width))[:1]:
            fail(token_N[at], "id", f"the token {id_N[at]} of {header.width}", "Use the tokenizer of the header")
        for at in np.flatnonzero(~((log_p_N <= 0) & (log_p_N > -np.inf)))[:1]:
            fail(token_N[at], "log_p", f"a log-probability of {log_p_N[at]}", "Leave out tokens without one")
        ordered = np.sort(token_N * header.width + id_N)
        for at in np.flatnonzero(ordered[1:] == ordered[:-1])[:1]:
            fail(ordered[at] // header.width, "id", f"the token {ordered[at] % header.width} twice", "Give it once")
        mass = np.add.reduceat(np.exp(log_p_N, dtype=np.float64), start[:-1])
        for at in np.flatnonzero(mass > 1 + EXCESS)[:1]:
            fail(
                first + at, "log_p", f"probabilities sum to {mass[at]:.4f}", "Cache natural logarithms at temperature 1"
            )
        first = last
