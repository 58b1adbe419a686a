"""Copies of a small model, each with one fault that a server could have, and the record that the judge makes of each.

The record of a faulty copy, held against a server of the honest model, differs by as much as that of the honest model
held against a faulty server; so one start of an engine shows all of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.integration.serving.tiny_model import CORPUS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.parity import Record
from slipway_trainer.evaluation import parity
from slipway_trainer.model import exported_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
RANK = 4
QUANTISED = "model.layers.1.mlp.down_proj.weight"
_ADAPTED = "model.layers.0.self_attn.o_proj.weight"


def honest_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> Manifest:
    """Writes a Llama of three layers with an adapter merged into it, and one matrix that went through 8 bits.

    Its weights are larger than a new model's, so that what it predicts is far from uniform, as a trained one's is.
    """
    words = _tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.12,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_parameter(_ADAPTED).add_(_adapter())
        model.get_parameter(QUANTISED).copy_(_through_8_bits(model.get_parameter(QUANTISED)))
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1)
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    words.save_pretrained(folder)
    return _finish(folder)


def record(folder: Path, *, of: Manifest) -> Record:
    """Returns what the judge makes of a folder, with the digest of the model that it is taken for."""
    manifest = artifact.verify(folder)
    loaded = exported_model.load(folder, dtype=torch.float32)
    return parity.compute(loaded, manifest.model_copy(update={"digest": of.digest}))


def faulty_copies(honest: Path, into: Path) -> Iterator[tuple[str, Path]]:
    """Yields the name of each fault and a folder that has it."""
    for name, plant in FAULTS.items():
        folder = into / name
        shutil.copytree(honest, folder)
        plant(folder)
        _finish(folder)
        yield name, folder


def _template_by_a_newline(folder: Path) -> None:
    _edit_template(folder, lambda text: text.replace("</s>\n", "</s>"))


def _bos_twice(folder: Path) -> None:
    _edit_template(folder, lambda text: text.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"))


def _another_eos(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 2}))


def _merge_removed(folder: Path) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["merges"].pop()
    path.write_text(json.dumps(document))


def _adapter_merged_twice(folder: Path) -> None:
    _edit_weight(folder, _ADAPTED, lambda weight: weight + _adapter())


def _rope_theta(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["rope_theta"] = 10000.0
    path.write_text(json.dumps(config))


def _untied_head(folder: Path) -> None:
    """The head that was trained is lost: in its place is one as it was before."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": False}))
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    embedding = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = (embedding + 0.01 * torch.randn_like(embedding)).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _noise_in_a_layer(folder: Path) -> None:
    torch.manual_seed(2)
    for name in load_file(folder / "model.safetensors"):
        if name.startswith("model.layers.1.") and name.endswith("proj.weight"):
            _edit_weight(folder, name, lambda weight: weight + 0.01 * weight.std() * torch.randn_like(weight))


def _wrong_scale(folder: Path) -> None:
    """One scale for all rows, where each row has its own."""

    def one_scale(weight: torch.Tensor) -> torch.Tensor:
        scales = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scales).round() * scales.mean()

    _edit_weight(folder, QUANTISED, one_scale)


FAULTS: dict[str, Callable[[Path], None]] = {
    "template by a newline": _template_by_a_newline,
    "BOS twice": _bos_twice,
    "another EOS": _another_eos,
    "a merge removed": _merge_removed,
    "adapter merged twice": _adapter_merged_twice,
    "rope_theta": _rope_theta,
    "untied head": _untied_head,
    "one layer with 1 % noise": _noise_in_a_layer,
    "a wrong quantisation scale": _wrong_scale,
}


def _edit_template(folder: Path, edit: Callable[[str], str]) -> None:
    path = folder / "chat_template.jinja"
    before = path.read_text(encoding="utf-8")
    assert edit(before) != before
    path.write_text(edit(before), encoding="utf-8")


def _edit_weight(folder: Path, name: str, edit: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name] = edit(weights[name].float()).to(weights[name].dtype).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _adapter() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(RANK, 128, generator=generator), torch.randn(128, RANK, generator=generator)
    return 0.02 * b @ a


def _through_8_bits(weight: torch.Tensor) -> torch.Tensor:
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scales).round() * scales


def _finish(folder: Path) -> Manifest:
    manifest = artifact.build(folder, run="tiny", plan_digest="sha256:" + "0" * 64, created_at="2026-01-01T00:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(manifest), encoding="utf-8")
    return manifest


def _tokenizer() -> PreTrainedTokenizerFast:
    special = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    core: Any = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)  # pyright: ignore[reportCallIssue]
    core.train_from_iterator(CORPUS, trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    words.chat_template = TEMPLATE
    return words
