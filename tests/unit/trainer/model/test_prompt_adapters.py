"""Virtual tokens in front of a text: the logits are of the real tokens, and answers do not depend on their batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.resources.stage import Memory, Stage
from slipway_trainer.evaluation import generation
from slipway_trainer.model import adapters, document_probe, prompt_adapters
from slipway_trainer.model.context_length import check_length
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.training import memory, model_size

WORDS = make_tokenizer()
METHODS = pytest.mark.parametrize("method", ["Prefix", "PromptTuning", "PTuning"])


def stage(method: str, **fields: Any) -> Stage:
    data = {"train": [{"uri": "package://tang"}]}
    return Stage.model_validate(
        {"name": "sft", "data": data, "adapter": {"method": method, "virtualTokens": 5}} | fields
    )


def prompted(method: str) -> Any:
    model: Any = adapters.add_adapter(make_model(WORDS), stage(method), [])
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3)
    return model


@METHODS
def test_the_logits_are_those_of_the_real_tokens_as_peft_has_them(tmp_path: Path, method: str) -> None:
    model = prompted(method).eval()
    ids = torch.arange(30, 54).view(2, 12)
    model.save_pretrained(str(tmp_path))
    plain = PeftModel.from_pretrained(make_model(WORDS), str(tmp_path)).eval()
    seen: list[int] = []
    model.get_base_model().lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        wanted = plain(input_ids=ids).logits
        found = model(input_ids=ids, use_cache=False).logits
        loaded = adapters.load_adapter(make_model(WORDS), tmp_path).eval()(input_ids=ids, use_cache=False).logits
    assert seen == [12], "the output layer is spared what predicts nothing"
    assert wanted.shape[1] == (12 if method == "Prefix" else 17)
    torch.testing.assert_close(found, wanted[:, -12:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded, found, atol=1e-5, rtol=1e-5)


@METHODS
def test_answers_are_what_the_whole_text_predicts_whatever_their_batch(method: str) -> None:
    model = prompted(method).eval()
    exported = ExportedModel(model, WORDS, [399], virtual_tokens=5)
    questions = ["a", "the quick brown fox", "床前明月光", "of times"]
    prompts = [generation.Prompt([{"role": "user", "content": text}]) for text in questions]
    answers = generation.answer(exported, prompts, max_new_tokens=6)
    alone = [generation.answer(exported, [prompt], max_new_tokens=6)[0].text for prompt in prompts]
    assert [answer.text for answer in answers] == alone
    ids: Any = WORDS.apply_chat_template(prompts[1].messages, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        for _ in range(6):
            row = torch.tensor([ids])
            ids = [*ids, int(model(input_ids=row, use_cache=False).logits[0, -1].argmax())]
    assert alone[1] == WORDS.decode(ids[-6:], skip_special_tokens=True)


@METHODS
def test_documents_share_no_row_and_the_first_logits_are_asked_of_real_tokens(method: str) -> None:
    found = document_probe.look(prompted(method), np.arange(50, 114), max_length=64)
    assert found == document_probe.Found(False, "5 virtual tokens stand in front of each document")


@METHODS
def test_they_need_places_of_their_own(method: str) -> None:
    config = make_model(WORDS).config
    check_length(config, stage(method, maxLength=123))
    with pytest.raises(BadConfig, match=r"124 is above the 123 tokens that the model takes .*, 5 of them virtual ones"):
        check_length(config, stage(method, maxLength=124))


def test_a_prefix_is_never_trained_with_gradient_checkpointing() -> None:
    """transformers drops the cache of a layer that is computed twice, and the prefix is in it."""
    size = model_size.of_model(prompted("Prefix"), stage("Prefix"))
    choice = memory.choose(size, stage("Prefix"), "FP32", memory.Machine("cpu", 1, 4), 4)
    assert not choice.gradient_checkpointing
    assert choice.zero_stage == 2, "ZeRO-3 would hold virtual tokens in pieces"
    other = stage("PTuning").model_copy(update={"memory": Memory()})
    assert memory.choose(size, other, "FP32", memory.Machine("cpu", 1, 4), 4).gradient_checkpointing


def test_only_the_virtual_tokens_are_trained() -> None:
    trained = [name for name, weight in prompted("PTuning").named_parameters() if weight.requires_grad]
    assert trained
    assert all(name.startswith("prompt_encoder.") for name in trained)
    assert prompt_adapters.virtual_tokens(prompted("Prefix")) == 5
    assert prompt_adapters.virtual_tokens(make_model(WORDS)) == 0
