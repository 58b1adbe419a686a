"""What is said of an exported model as it is loaded."""

import pytest
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.model import exported_model


@pytest.mark.parametrize(("hidden", "heads", "served"), [(64, 2, True), (64, 4, False), (256, 4, True)])
def test_a_head_size_that_vllm_does_not_take_on_a_cpu_is_said(hidden: int, heads: int, served: bool) -> None:
    config = make_model(make_tokenizer(), hidden_size=hidden, num_attention_heads=heads).config
    warning = exported_model.head_size_warning(config)
    assert (warning is None) is served
    assert warning is None or f"is {hidden // heads}," in warning
