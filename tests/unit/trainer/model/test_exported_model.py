"""What is said of an exported model as it is loaded."""

from pathlib import Path

import pytest
import torch
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.model import exported_model


@pytest.mark.parametrize(("hidden", "heads", "served"), [(64, 2, True), (64, 4, False), (256, 4, True)])
def test_a_head_size_that_vllm_does_not_take_on_a_cpu_is_said(hidden: int, heads: int, served: bool) -> None:
    config = make_model(make_tokenizer(), hidden_size=hidden, num_attention_heads=heads).config
    warning = exported_model.head_size_warning(config)
    assert (warning is None) is served
    assert warning is None or f"is {hidden // heads}," in warning


def test_a_model_whose_parts_are_placed_one_by_one_is_the_same_model(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words)
    model.save_pretrained(str(tmp_path))
    words.save_pretrained(str(tmp_path))
    parts = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
    placed = exported_model.load(tmp_path, dtype=torch.float32, places=dict.fromkeys(parts, "cpu"))
    tokens = torch.arange(16)[None]
    with torch.inference_mode():
        assert torch.equal(placed.model(input_ids=tokens).logits, model(input_ids=tokens).logits)
