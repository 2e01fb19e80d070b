"""LoRA and QLoRA: low-rank adapters on a frozen backbone, trained beside the whole reward head, merged on export.

The adapters are put into the network that is there (`peft.inject_adapter_in_model`), so that nothing else has to know
of them. Knows no training.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from reward_distiller.config import Lora
from reward_distiller.errors import ConfigError, ModelError
from reward_distiller.model.network import RewardNetwork


def check_adapters(lora: Lora | None) -> None:
    """Raise ConfigError where a package is missing."""
    needed = {"peft": "lora", "bitsandbytes": "qlora"} if lora and lora.quantize else {"peft": "lora"} if lora else {}
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"student.lora needs {package}, which is not installed. pip install 'reward-distiller[{extra}]'"
            )


def quantization(lora: Lora | None) -> dict[str, Any]:
    """Options of `from_pretrained` that load the frozen weights in 4-bit NF4 (QLoRA, Dettmers et al., 2023)."""
    if lora is None or not lora.quantize:
        return {}
    import transformers

    return {
        "quantization_config": transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
            llm_int8_skip_modules=["lm_head", "score"],
        )
    }


def add_adapters(network: RewardNetwork, lora: Lora | None, seed: int) -> None:
    """Freeze everything but the reward head, and put an adapter on each chosen linear layer of the backbone."""
    if lora is None:
        return
    import peft

    backbone = network.classifier.base_model
    linear = {name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    if not linear:
        raise ConfigError(
            f"student.lora: {type(backbone).__name__} has no linear layer that takes an adapter. Leave student.lora out"
        )
    wrong = [name for name in lora.modules if not any(n == name or n.endswith(f".{name}") for n in linear)]
    if wrong:
        known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise ConfigError(f"student.lora.modules: the backbone has no linear layer {wrong[0]!r}. It has {known}")
    network.requires_grad_(False)
    network.classifier.score.float().requires_grad_(True)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=lora.modules or sorted({name.rsplit(".", 1)[-1] for name in linear}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, backbone)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    # Checkpointed layers need an input that has a gradient, which frozen embeddings do not give.
    network.classifier.enable_input_require_grads()


def merge_adapters(network: RewardNetwork) -> None:
    """Add each adapter's product to its weight and take the adapter out; quantized weights become plain ones."""
    if not any(".lora_A." in name for name, _ in network.named_parameters()):
        return
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    classifier = network.classifier
    adapted: list[tuple[str, Any]] = [(name, m) for name, m in classifier.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in adapted:
        base = layer.get_base_layer()
        (adapter,) = layer.lora_A.keys()
        delta = layer.get_delta_weight(adapter).float()
        weight = dequantize_module_weight(base).float() + delta
        if weight.shape != delta.shape:
            raise ModelError(f"the adapter of {name} does not fit its layer")
        _replace(classifier, name, base, weight)
    for name, module in list(classifier.named_modules()):  # quantized layers that have no adapter
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None:
            _replace(classifier, name, module, dequantize_module_weight(module).float())
    if adapted and getattr(network.classifier.config, "quantization_config", None) is not None:
        del network.classifier.config.quantization_config
        for attribute in ("hf_quantizer", "is_quantized", "is_loaded_in_4bit", "quantization_method"):
            if hasattr(network.classifier, attribute):
                setattr(network.classifier, attribute, None if attribute == "hf_quantizer" else False)


def _replace(classifier: nn.Module, name: str, layer: Any, weight: Tensor) -> None:
    """Put a plain linear layer with this weight in a layer's place."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device=weight.device)
    plain.weight = nn.Parameter(weight)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().float())
    parent, _, last = name.rpartition(".")
    setattr(classifier.get_submodule(parent), last, plain)
