"""A GGUF file is the artifact: transformers reads back the same logits and the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tests.unit.trainer.tiny_model import TEXTS, make_tokenizer
from tokenizers import Regex, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.gguf import write
from slipway_trainer.gguf.tensors import Format
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.model_files import write_model
from slipway_trainer.step.errors import BadConfig, NoSpace, Superseded
from slipway_trainer.step.fence import Fence

FAMILIES: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
SAMPLES = [*TEXTS, "It's 12345 o'clock,\n\n  and we're late… 明月", "<|im_start|>user\nHi<|im_end|>\n", "\t x"]


def make_model(words: PreTrainedTokenizerFast, family: str, **config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    of_family, model = FAMILIES[family]
    settings = {
        "vocab_size": -(-len(words) // 64) * 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
        "rope_theta": 5000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    made = model(of_family(**settings | config)).eval()
    with torch.no_grad():
        # Biases and norms of a new model are zeros and ones, which would hide that they are lost.
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def an_artifact(root: Path, model: PreTrainedModel, words: PreTrainedTokenizerFast) -> tuple[Workspace, Manifest]:
    workspace = Workspace(root)
    write_model(model, words, workspace.artifact)
    manifest = artifact.build(workspace.artifact, run="demo", plan_digest="sha256:" + "c" * 64, created_at="x")
    (workspace.artifact / artifact.MANIFEST).write_text(artifact.dump(manifest))
    return workspace, manifest


def written(made: tuple[Workspace, Manifest], wanted: Format = "F16", attempt: int = 1) -> Path:
    workspace, manifest = made
    workspace.fence("export").parent.mkdir(parents=True, exist_ok=True)
    return write.write(workspace, manifest, wanted, Fence(workspace.fence("export"), attempt), lambda _: None)


def rounded(model: PreTrainedModel, wanted: Format) -> PreTrainedModel:
    """The model with its matrices as the format rounds them: what the file must compute, but for rounding of sums."""
    kind = gguf.GGMLQuantizationType[wanted]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                values = gguf.quants.dequantize(gguf.quants.quantize(parameter.numpy(), kind), kind)
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


@pytest.mark.parametrize("wanted", ["F16", "Q8_0"])
@pytest.mark.parametrize("family", [*FAMILIES])
def test_transformers_reads_back_what_the_artifact_computes(family: str, wanted: Format, tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words, family)
    before = sample_logits(model)
    folder = written(an_artifact(tmp_path, model, words), wanted)
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file="model.gguf", dtype=torch.float32)
    found = sample_logits(loaded)
    torch.testing.assert_close(found, sample_logits(rounded(model, wanted)), atol=2e-4, rtol=1e-4)
    assert 0 < float((found - before).abs().max()) < (0.02 if wanted == "F16" else 0.5) * float(before.abs().max())
    assert loaded.config.max_position_embeddings == 128
    read: Any = AutoTokenizer.from_pretrained(str(folder), gguf_file="model.gguf")
    for text in SAMPLES:
        assert read(text, add_special_tokens=False).input_ids == words(text, add_special_tokens=False).input_ids


def test_one_embedding_for_both_ends_is_written_once_and_a_width_of_its_own_is_kept(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words, "mistral", tie_word_embeddings=True, head_dim=32, sliding_window=48)
    made = an_artifact(tmp_path, model, words)
    folder = written(made)
    reader = gguf.GGUFReader(folder / "model.gguf")
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}
    assert reader.fields["llama.context_length"].contents() == 48, "llama.cpp knows no window of this family"
    assert reader.fields["llama.attention.key_length"].contents() == 32
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file="model.gguf", dtype=torch.float32)
    tokens = torch.arange(40)[None]
    found, expected = sample_logits(loaded, tokens), sample_logits(rounded(model, "F16"), tokens)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_positions_that_are_stretched_are_divided_by_what_the_file_says(tmp_path: Path) -> None:
    """transformers reads the file without it, as llama.cpp divides each frequency by it: so the test does that."""
    words = make_tokenizer()
    stretched = {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    model = make_model(words, "llama", rope_parameters=stretched)
    folder = written(an_artifact(tmp_path, model, words), "Q8_0")
    (divisors,) = [t for t in gguf.GGUFReader(folder / "model.gguf").tensors if t.name == "rope_freqs.weight"]
    assert (divisors.tensor_type, divisors.shape.tolist()) == (gguf.GGMLQuantizationType.F32, [8])
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file="model.gguf", dtype=torch.float32)
    tokens, expected = torch.arange(100)[None], sample_logits(rounded(model, "Q8_0"), torch.arange(100)[None])
    assert (sample_logits(loaded, tokens) - expected).abs().max() > 0.1
    with torch.no_grad():
        loaded.model.rotary_emb.inv_freq.div_(torch.from_numpy(divisors.data.copy()))
    torch.testing.assert_close(sample_logits(loaded, tokens), expected, atol=2e-4, rtol=1e-4)


def test_it_says_what_ends_a_turn_and_what_begins_a_text(tmp_path: Path) -> None:
    words = make_tokenizer()
    words.add_tokens(["<tool>"])
    folder = written(an_artifact(tmp_path, make_model(words, "llama"), words))
    fields = gguf.GGUFReader(folder / "model.gguf").fields
    said = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in fields.items()}
    assert said["pre"] == "gpt-2"
    assert said["bos_token_id"] == words.bos_token_id
    assert said["eos_token_id"] == words.eos_token_id
    assert said["eot_token_id"] == words.convert_tokens_to_ids("<|im_end|>")
    assert said["padding_token_id"] == words.pad_token_id
    assert said["add_bos_token"] is True
    assert said["add_eos_token"] is False
    types = said["token_type"]
    assert types[words.convert_tokens_to_ids("<|im_end|>")] == gguf.TokenType.CONTROL
    assert types[words.convert_tokens_to_ids("<tool>")] == gguf.TokenType.USER_DEFINED
    assert types[words.convert_tokens_to_ids("a")] == gguf.TokenType.NORMAL
    assert set(types[len(words) :]) <= {gguf.TokenType.UNUSED}
    template = said.get("chat_template") or fields["tokenizer.chat_template"].contents()
    assert "generation %}" not in template, "llama.cpp knows no marks of answers"
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "A"},
    ]
    for prompt in (True, False):
        plain = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        own = words.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=prompt)
        assert own == plain


def test_D_the_same_artifact_has_the_same_file_and_one_that_is_there_stays(tmp_path: Path) -> None:
    words = make_tokenizer()
    made = an_artifact(tmp_path / "a", make_model(words, "llama"), words)
    folder = written(made)
    record = json.loads((folder / write.RECORD).read_text())
    assert record["artifact"] == made[1].digest
    assert record["files"].keys() == {"model.gguf", "Modelfile"}
    assert artifact.verify(made[0].artifact) == made[1], "the artifact does not change"
    stamp = (folder / "model.gguf").stat().st_mtime_ns
    assert (written(made, attempt=2) / "model.gguf").stat().st_mtime_ns == stamp
    (folder / "model.gguf").write_bytes(b"damaged")
    assert json.loads((written(made, attempt=3) / write.RECORD).read_text()) == record
    assert json.loads((written(made, "Q8_0", attempt=4) / write.RECORD).read_text())["format"] == "Q8_0"
    other = an_artifact(tmp_path / "b", make_model(words, "llama"), words)
    assert json.loads((written(other) / write.RECORD).read_text()) == record


def test_killed_on_the_way_there_is_none_and_the_next_attempt_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = make_tokenizer()
    made = an_artifact(tmp_path, make_model(words, "llama"), words)

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(write, "sync_tree", die)
        with pytest.raises(Killed):
            written(made)
    assert not made[0].gguf.exists()
    Fence(made[0].fence("export"), 5).raise_()
    with pytest.raises(Superseded):
        written(made, attempt=4)
    assert not made[0].gguf.exists()
    written(made, attempt=6)
    assert [path.name for path in tmp_path.glob("gguf*")] == ["gguf"]


def test_what_is_no_number_in_half_precision_is_refused(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words, "llama")
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[3, 4] = 70000.0
    made = an_artifact(tmp_path, model, words)
    with pytest.raises(BadConfig, match=r"mlp\.up_proj\.weight holds 7e\+04, which is no number in F16"):
        written(made)
    assert not made[0].gguf.exists()
    assert written(made, "Q8_0", attempt=2).is_dir()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = make_tokenizer()
    made = an_artifact(tmp_path, make_model(words, "llama"), words)
    monkeypatch.setattr(write, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(NoSpace, match=r"export\.gguf: the file takes"):
        written(made)
    assert not list(tmp_path.glob("gguf*"))


_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = _CASES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize(("pattern", "name"), [(LLAMA3, "smaug-bpe"), (LLAMA3.replace("{1,3}", ""), "qwen2")])
def test_a_tokenizer_that_splits_by_a_pattern_is_read_back_with_the_same_tokens(
    pattern: str, name: str, tmp_path: Path
) -> None:
    words = make_tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    folder = written(an_artifact(tmp_path, make_model(words, "qwen2"), words))
    fields = gguf.GGUFReader(folder / "model.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == name
    read: Any = AutoTokenizer.from_pretrained(str(folder), gguf_file="model.gguf")
    for text in SAMPLES:
        assert read(text, add_special_tokens=False).input_ids == words(text, add_special_tokens=False).input_ids
