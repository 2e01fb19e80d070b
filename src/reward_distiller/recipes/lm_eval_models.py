"""Policies as lm-eval asks them: a local folder through its `hf` backend, a served one through its API backends.

Adds what lm-eval would get wrong: a chat's end token ends a response, a checkpoint's own generation settings do not
count, and a server gets the key that was named for it, and no other. Knows no tasks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import transformers

from reward_distiller.errors import ConfigError, MissingExtra, ModelError
from reward_distiller.model.chat import first_line, load_chat
from reward_distiller.model.loading import device_of

RETRIES = 3  # of a request, with seconds between them


@dataclass(frozen=True)
class PolicyPlace:
    """`model` is a folder, or the name that a server at `base_url` gives it.

    `concurrent` requests at once for a server, `batch_size` responses at once for a folder.
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    concurrent: int = 8
    batch_size: int = 8
    device: str | None = None

    @property
    def url(self) -> str | None:
        """The whole address: /chat/completions unless the base URL names another."""
        base = self.base_url.rstrip("/") if self.base_url else None
        return base if base is None or base.endswith("/completions") else f"{base}/chat/completions"

    @property
    def chat(self) -> bool:
        """Whether it is asked in messages; /completions takes plain text."""
        return self.url is None or self.url.endswith("/chat/completions")


def import_lm_eval() -> Any:
    try:
        import lm_eval
    except ImportError as error:
        raise MissingExtra("lm-eval", "lm-eval") from error
    return lm_eval


def open_policy(place: PolicyPlace) -> Any:
    """An lm-eval LM. Raises ModelError for what is no causal LM with a chat template, ConfigError for a missing key."""
    import_lm_eval()
    from lm_eval.api.registry import get_model

    if place.url is not None:
        key = _key(place)
        # Where no header is given, lm-eval sends $OPENAI_API_KEY to whatever server it is told to ask.
        header = {"Authorization": f"Bearer {key}"} if key else {"Accept": "application/json"}
        kind = "local-chat-completions" if place.chat else "local-completions"
        lm = get_model(kind)(
            model=place.model,
            base_url=place.url,
            header=header,
            num_concurrent=place.concurrent,
            max_retries=RETRIES,
            tokenizer_backend="none",
            tokenized_requests=False,
        )
        texts_of = lm.parse_generations
        # lm-eval's cache puts responses behind a missing one in the wrong places.
        lm.parse_generations = lambda **answer: [text or "" for text in texts_of(**answer)]
        return lm
    chat = load_chat(place.model)
    end = chat.end_token_id()
    if end is None:
        raise ModelError(f"{place.model}: no token ends a response. Give its tokenizer an end token")
    if chat.tokenizer.eos_token_id is None:  # lm-eval cannot do without, and would pad with a token that no model knows
        chat.tokenizer.eos_token = chat.tokenizer.convert_ids_to_tokens(end)
    try:
        lm = get_model("hf")(
            pretrained=place.model,
            backend="causal",
            tokenizer=chat.tokenizer,
            device=str(device_of(place.device)),
            batch_size=place.batch_size,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no causal LM can be loaded from {place.model} ({first_line(error)})") from error
    own = getattr(lm.model.generation_config, "eos_token_id", None)
    declared = [] if own is None else [own] if isinstance(own, int) else list(own)
    ends = sorted({*map(int, declared), end})
    lm.model.generation_config = transformers.GenerationConfig(eos_token_id=ends)
    return lm


@contextmanager
def quiet(place: PolicyPlace) -> Iterator[None]:
    """lm-eval's log without what a reader of ours need not know, and without the key, which its errors repeat."""
    key = _key(place)
    levels = {"lm_eval": logging.ERROR, "lm_eval.models.api_models": logging.WARNING, "asyncio": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    requests = logging.getLogger("lm_eval.models.api_models")

    def without_key(record: logging.LogRecord) -> bool:
        if key:
            record.msg, record.args = record.getMessage().replace(key, f"[{place.api_key_env}]"), ()
        return True

    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    requests.addFilter(without_key)
    try:
        yield
    finally:
        requests.removeFilter(without_key)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _key(place: PolicyPlace) -> str | None:
    if place.api_key_env is None:
        return None
    key = os.environ.get(place.api_key_env)
    if not key:
        raise ConfigError(f"the environment variable {place.api_key_env} is not set. Set it, then run again")
    return key
