"""What vLLM makes of a request on each of its routes, with our renderer in it and no engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.trainer.tiny_model import make_model, make_tokenizer

LENGTH = 4096


def model_folder(folder: Path, template: str) -> Path:
    """Writes what a renderer needs of a model: a tokenizer that begins texts with BOS, a chat template, a config."""
    words = make_tokenizer(max_length=LENGTH)
    words.chat_template = template
    words.save_pretrained(folder)
    make_model(words, positions=LENGTH).config.save_pretrained(folder)
    return folder


class Server:
    """Each method returns the tokens of the prompt. Raises VLLMValidationError."""

    def __init__(self, model: Path) -> None:
        from vllm.config import ModelConfig, VllmConfig
        from vllm.renderers.online_renderer import OnlineRenderer
        from vllm.tokenizers import cached_tokenizer_from_config

        from slipway_serving.engine.chat_renderer import ChatRenderer

        config = ModelConfig(model=str(model), tokenizer=str(model), dtype="float32", max_model_len=LENGTH)
        self._online = OnlineRenderer(
            config,
            ChatRenderer(VllmConfig(model_config=config), cached_tokenizer_from_config(config)),
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
            enable_auto_tools=True,
            tool_parser="hermes",
        )

    def completions(self, *messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> list[int]:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        return self._asked(ChatCompletionRequest.model_validate({"messages": [*messages], "tools": tools}))

    def responses(self, asked: str, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

        flat = [{"type": "function"} | tool["function"] for tool in tools]
        request = ResponsesRequest.model_validate({"input": asked, "tools": flat})
        return asyncio.run(self._online.render_responses(request)).engine_input["prompt_token_ids"]

    def messages(self, asked: str, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
        from vllm.entrypoints.anthropic.serving import AnthropicServingMessages

        theirs = [
            {("input_schema" if name == "parameters" else name): value for name, value in tool["function"].items()}
            for tool in tools
        ]
        request = AnthropicMessagesRequest.model_validate(
            {"model": "tiny", "max_tokens": 8, "messages": [{"role": "user", "content": asked}], "tools": theirs}
        )
        return self._asked(AnthropicServingMessages.to_chat_completion_request(request))

    def _asked(self, request: Any) -> list[int]:
        _, (found,) = asyncio.run(self._online.render_chat(request))
        return found["prompt_token_ids"]
