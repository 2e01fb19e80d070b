"""A real server for tests: a tiny model behind uvicorn, on loopback, in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tiny

from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.serve.app import make_app
from reward_distiller.serve.server import Server

PROMPT = "How old is the oak?"
RESPONSES = ["a hundred years", "nobody knows", "", "ask the owl " * 5]
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": PROMPT}]


def save_model(folder: Path) -> Path:
    chat = tiny.chat()
    save_reward_model(build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, 0), chat, folder, {})
    return folder


@contextmanager
def running(model: RewardModel, *limits, **options) -> Iterator[tuple[str, Server]]:
    """The server's URL, and the server. It is drained at the end."""
    server = Server(make_app(model, "tiny", *limits, **options), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.port}", server
    finally:
        server.drain()
        thread.join(20)
        assert not thread.is_alive()
