"""A reward model under a real vLLM gives the rewards that it gives here, at /classify and through our faces."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import torch
import transformers
from tiny import byte_tokenizer

from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rewards.client import RewardClient
from reward_distiller.rewards.trl import http_reward
from reward_distiller.serve.app import sigmoid

VLLM = os.environ.get("VLLM")
pytestmark = pytest.mark.skipif(not VLLM, reason="the environment variable VLLM names no `vllm` program")
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "How old is the oak?"}]
RESPONSES = ["a hundred years", "nobody knows", "ask the owl " * 5]
TO_START = 300.0  # seconds


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    tokenizer = byte_tokenizer(eos_token="<|im_end|>")
    chat = ChatFormat(tokenizer, "tiny")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer) + 1,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,  # the least that vLLM's attention on CPUs takes is 32
        intermediate_size=128,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("rm") / "model"
    save_reward_model(build_network(transformers.Qwen3ForCausalLM(config), chat, 0), chat, folder, {})
    return folder


@pytest.fixture(scope="module", params=[("float32", 1e-4), ("bfloat16", 0.15)], ids=lambda param: param[0])
def served(request, model, tmp_path_factory):
    """vLLM's URL, and how far its rewards may be off in its precision."""
    dtype, tolerance = request.param
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("logs") / f"{dtype}.log"
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [VLLM, "serve", str(model), "--host=127.0.0.1", f"--port={port}", "--runner=pooling"]
    command += ["--enforce-eager", "--max-model-len=1024", f"--dtype={dtype}"]
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **quiet})
    try:
        end = time.monotonic() + TO_START
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", tolerance
    finally:
        server.terminate()
        server.wait(60)


def test_vllm_gives_the_same_rewards(model, served) -> None:
    url, tolerance = served
    offline = RewardModel.from_pretrained(str(model), device="cpu")
    expected = offline.score(CHAT, RESPONSES)
    close = pytest.approx(expected, abs=tolerance)
    assert max(expected) - min(expected) > 3 * tolerance  # or the same number for all would do
    assert RewardClient(f"{url}/classify").rewards(CHAT, RESPONSES) == close
    face = http_reward(f"{url}/classify")
    assert (
        asyncio.run(face(prompts=[CHAT] * 3, completions=[[{"role": "assistant", "content": r}] for r in RESPONSES]))
        == close
    )
    texts = [
        offline.chat.tokenizer.apply_chat_template([*CHAT, {"role": "assistant", "content": r}], tokenize=False)
        for r in RESPONSES
    ]
    ids = [list(offline.chat.encode(CHAT, r).ids) for r in RESPONSES]
    for given in (texts, ids):
        answer = httpx.post(f"{url}/classify", json={"input": given, "use_activation": False}).json()
        assert [item["probs"][-1] for item in answer["data"]] == close
    squashed = httpx.post(f"{url}/classify", json={"input": texts}).json()["data"]
    assert [item["probs"][-1] for item in squashed] == pytest.approx(list(map(sigmoid, expected)), abs=tolerance)
