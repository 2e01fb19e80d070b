"""A policy's training: the prompts or demonstrations as the chat template renders them, and a judge's request."""

from __future__ import annotations

from pathlib import Path

from reward_distiller.config import Annotation, RLConfig
from reward_distiller.construct.pseudo_rewards import Query
from reward_distiller.recipes.labeling import labeler_of
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policies import policy_chat
from reward_distiller.recipes.policy import LEDGER
from reward_distiller.recipes.preview.exchanges import Seen, keyless, watching
from reward_distiller.recipes.preview.responses import ask_judge, show_prompts, source_there, stand_in
from reward_distiller.recipes.store import store_of
from reward_distiller.rows import Fields, rows_of


def preview_policy(config: RLConfig, parts: Parts, count: int) -> list[Seen]:
    """The first `count` distinct prompts; of SFT, whole demonstrations. Each judge is shown once a prompt."""
    queries = _first(config, parts, count)
    store, limit = store_of(config), config.rollout.max_prompt_length
    with watching(parts, Path(config.output) / LEDGER, stand_in) as engine:
        if config.algorithm == "sft":
            chat = policy_chat(config.policy, parts, store)
            for query in queries:
                turns = [*query.prompt.as_dicts(), {"role": "assistant", "content": str(query.row["response"])}]
                text = str(chat.tokenizer.apply_chat_template(turns, tokenize=False))
                size = len(chat.opening(query.prompt.as_dicts()))
                dropped = f", more than {limit}: dropped" if size > limit else ""
                record = f"{query.prompt.id}, {size} tokens before the response{dropped}"
                engine.show("demonstration", Path(chat.where).name, record, text)
            return engine.seen
        show_prompts(engine, config.policy, queries, limit, parts, store)
        for term in config.rewards.values():
            if term.labels is not None and term.labels.judge is not None:
                labels = term.labels.model_copy(update={"judge": keyless(term.labels.judge)})
                ask_judge(labeler_of(labels, Annotation(), parts, engine), queries)
        return engine.seen


def _first(config: RLConfig, parts: Parts, count: int) -> list[Query]:
    sft, store = config.algorithm == "sft", store_of(config)
    found: dict[str, Query] = {}
    for given in [config.demonstrations] if sft else config.prompts:
        assert given is not None
        source = source_there(given, store)
        own = parts.rows(source.testbed, "demonstrations" if sft else "prompts") if source.testbed else None
        where, rows = rows_of(source, own, config.seed)
        for number, row in rows:
            if len(found) == count:
                return list(found.values())
            fields = Fields(where, number, row, source.columns)
            prompt = fields.prompt()
            kept = {**row, "response": fields.response("response")} if sft else row
            found.setdefault(prompt.id, Query(prompt, kept, bool(row.get("open_ended"))))
    return list(found.values())
