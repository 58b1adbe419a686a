"""How vLLM is told to run a model, and what it says against that, in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from slipway_serving.engine import configuration
from slipway_serving.settings import Settings, SettingsError


class Checked(BaseModel):
    @model_validator(mode="after")
    def check(self):
        raise ValueError("max_model_len (100000) is greater than 256")


def test_why_vllm_does_not_take_its_configuration_is_told_without_the_words_of_the_library_around_it():
    try:
        Checked()
    except ValueError as error:
        told = configuration.refusal(error)
    assert told.startswith("vLLM does not take this configuration: max_model_len (100000) is greater than 256.")
    assert "pydantic" not in told
    assert "[type" not in told


def test_an_error_of_its_own_is_told_as_it_is():
    assert "no such thing" in configuration.refusal(ValueError("no such thing"))


CHAT = {"--default-chat-template-kwargs", "--reasoning-parser", "--reasoning-parser-plugin", "--tool-call-parser"}


def told(folder: Path, kind: str = "llama", **chat: Any) -> dict[str, str]:
    """What of its command line is about conversations, for a model with this chat format."""
    (folder / "config.json").write_text(json.dumps({"dtype": "float32", "model_type": kind}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "slipway_chat": chat}))
    words = configuration.arguments(Settings(folder, "tiny"), on_cpu=True)
    assert ("--enable-auto-tool-choice" in words) == ("--tool-call-parser" in words)
    return {name: words[at + 1] for at, name in enumerate(words) if name in CHAT}


def test_a_model_is_asked_and_read_as_it_was_judged(tmp_path):
    marks = {"start": "<think>", "end": "</think>"}
    found = told(tmp_path, arguments={"enable_thinking": False}, reasoning=marks, tool_parser="hermes")
    assert json.loads(found["--default-chat-template-kwargs"]) == {"enable_thinking": False}
    assert (found["--reasoning-parser"], found["--tool-call-parser"]) == ("slipway", "hermes")


def test_a_model_that_says_nothing_about_conversations_is_told_nothing(tmp_path):
    assert told(tmp_path) == {}
    (tmp_path / "tokenizer_config.json").unlink()
    assert configuration.read_chat_format(tmp_path).arguments == {}


def test_the_reasoning_of_gpt_oss_is_left_to_vllm(tmp_path):
    assert told(tmp_path, "gpt_oss", reasoning={"start": "<|channel|>analysis", "end": "<|channel|>final"}) == {}


def test_a_chat_format_that_is_none_is_refused_by_its_field(tmp_path):
    with pytest.raises(SettingsError, match=r"slipway_chat\.reasoning\.end"):
        told(tmp_path, reasoning={"start": "<think>"})


def test_a_form_of_calls_that_this_vllm_does_not_read_is_refused_before_anything_is_loaded():
    configuration.require_tool_parser(None, ["hermes"])
    configuration.require_tool_parser("hermes", ["hermes"])
    with pytest.raises(SettingsError, match=r"slipway_chat\.tool_parser is 'newer', and this vLLM has hermes\. Serve"):
        configuration.require_tool_parser("newer", ["hermes"])


@pytest.mark.parametrize(
    ("layout", "flags", "refused"),
    [
        ("pack-quantized", {"avx2"}, "AVX-512"),
        ("int-quantized", {"avx2"}, "VNNI"),
        ("int-quantized", {"avx2", "avx_vnni"}, None),
        ("float-quantized", {"avx2"}, None),
        (None, {"avx2"}, None),
    ],
)
def test_weights_that_this_processor_cannot_compute_with_are_refused_before_anything_is_loaded(
    tmp_path, layout, flags, refused
):
    told = {"quantization_config": {"quant_method": "compressed-tensors", "format": layout}} if layout else {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **told}))
    if refused is None:
        configuration.require_kernels(tmp_path, flags)
        return
    with pytest.raises(SettingsError, match=f"this processor has not {refused}, .* or export it with FP8"):
        configuration.require_kernels(tmp_path, flags)
