"""How conversations become tokens in vLLM: as in training, with tools in one form, and what somebody wrote out as text.

vLLM renders a conversation to one text and tokenises that, so a control token in a message would be one. Every route
that takes a conversation goes through vLLM's renderer; this one differs from it for such conversations, for
those with tools, which are put to the template as in training, and in what stands before the text of a template.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, SupportsIndex, cast

from tokenizers import Tokenizer
from vllm.entrypoints.anthropic import api_router as messages_router
from vllm.exceptions import VLLMValidationError
from vllm.renderers import hf
from vllm.renderers.mistral import MistralRenderer
from vllm.renderers.params import TokenizeParams
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.utils.async_utils import make_async

from slipway_core.protocol import chat_format, tool_definitions
from slipway_core.protocol.control_tokens import ControlTokens, Message, NotQuotable
from slipway_core.protocol.quoted_encoder import QuotedEncoder

_LENGTH_OF_RESPONSES = "max_output_tokens"
"""How vLLM calls the length of an answer on `/v1/responses`; on the other routes it is max_tokens, or the like."""
# What of the template's arguments is not written into the text.
_SETTINGS = ("chat_template", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict")


def register() -> None:
    """Makes vLLM take this renderer where it would take its own for tokenizers of the hub. Called before the engine."""
    RENDERER_REGISTRY.renderers["hf"] = (ChatRenderer.__module__, ChatRenderer.__name__)
    logging.getLogger(messages_router.__name__).addFilter(quiet_refusal)


def quiet_refusal(record: logging.LogRecord) -> bool:
    """Takes the traceback from the record of a message that is refused: it is the client's mistake, and a 400."""
    if record.exc_info and isinstance(record.exc_info[1], VLLMValidationError):
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True


def refused_tokens(renderer: Any) -> ControlTokens | None:
    """Returns what no message may hold, for a renderer that makes tokens of it; None for one that makes text of it.

    Some models have a renderer of their own in vLLM. Mistral's encodes what is said by itself, without control tokens;
    the others write one text, and tokenise that.
    """
    if isinstance(renderer, ChatRenderer | MistralRenderer) or renderer.tokenizer is None:
        return None
    tokenizer = renderer.tokenizer
    special = {str(token) for token in tokenizer.all_special_tokens}
    return ControlTokens.find(_added(tokenizer) | dict.fromkeys(special, True), special, _renders(tokenizer))


def _added(tokenizer: Any) -> dict[str, bool]:
    """Returns the tokens beside the vocabulary, and whether the tokenizer calls them special."""
    return {str(token): bool(token.special) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}


def _renders(tokenizer: Any, **arguments: Any) -> Callable[[list[Message], bool], str | None]:
    """Returns what makes a text of a conversation, and None of one that the template refuses."""

    def render(messages: list[Message], answering: bool) -> str | None:
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering, **arguments)
        except Exception:
            # A template is a program of somebody else's: it may raise anything.
            return None
        return text if isinstance(text, str) else None

    return render


class QuotedText(str):
    """A rendered conversation with stand-ins. Where vLLM cuts it, the rest is one too."""

    __slots__ = ()

    def __getitem__(self, key: SupportsIndex | slice) -> QuotedText:
        return QuotedText(super().__getitem__(key))


class ChatRenderer(hf.HfRenderer):
    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        # Both are vLLM's own business: a version that renders otherwise must not start as if nothing were.
        if not (hasattr(self, "_apply_chat_template_async") and hasattr(hf.HfRenderer, "_tokenize_prompt")):
            raise RuntimeError("this version of vLLM renders conversations in a way that is not known here")
        self._apply_chat_template_async = make_async(self._apply_chat_template, executor=self._executor)

    async def render_chat_async(
        self, conversations: Any, chat_params: Any, tok_params: TokenizeParams | None = None, **options: Any
    ) -> Any:
        """Returns what vLLM makes of conversations, those of `/v1/responses` without what it puts before their text:
        the template writes the token that begins a text, or there is none, as for chat completions."""
        if tok_params is not None and tok_params.max_output_tokens_param == _LENGTH_OF_RESPONSES:
            tok_params = replace(tok_params, add_special_tokens=False)
        return await super().render_chat_async(conversations, chat_params, tok_params, **options)

    def _apply_chat_template(
        self, model_config: Any, tokenizer: Any, conversation: list[Any], **arguments: Any
    ) -> str | list[int]:
        """Returns the text of a conversation, or what vLLM makes of it where it is asked for tokens.

        Raises VLLMValidationError (400) when it holds a control token that cannot be made text, and when a template
        could not have been trained on one of its tools.
        """
        if arguments.get("tools"):
            arguments["tools"] = _as_learned(arguments["tools"])
        own = hf.safe_apply_chat_template(model_config, tokenizer, conversation, **arguments)
        settings = {name: value for name, value in arguments.items() if name in _SETTINGS}
        written = {name: value for name, value in arguments.items() if name not in _SETTINGS}
        try:
            quoted = self._control.quote(conversation, written)
        except NotQuotable as error:
            raise _refused(error) from None
        if quoted is None:
            return own
        if not isinstance(own, str):
            raise _refused(f"{quoted.first}, and this model's conversations are not rendered as text")
        conversation = cast(list[Any], quoted.messages)
        text: Any = hf.safe_apply_chat_template(model_config, tokenizer, conversation, **quoted.others, **settings)
        if not (isinstance(text, str) and self._control.is_quoted(own, text)):
            raise _refused(f"{quoted.first}, and the model's chat template renders the conversation otherwise for it")
        return QuotedText(text)

    def _tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        text = prompt["prompt"]
        if not isinstance(text, QuotedText):
            return super()._tokenize_prompt(prompt, params)
        try:
            ids = self._encoder.ids(text, add_special_tokens=params.get_encode_kwargs()["add_special_tokens"])
            prompt["prompt"] = self._control.restore(text)
            return self._build_tokens_prompt(ids, prompt)
        except NotQuotable as error:
            raise _refused(error) from None

    @cached_property
    def _control(self) -> ControlTokens:
        tokenizer: Any = self.get_tokenizer()
        template = hf.resolve_chat_template(tokenizer, None, None, model_config=self.model_config)
        judged: dict[str, Any] = chat_format.of_config(getattr(tokenizer, "init_kwargs", {})).arguments

        named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        steering = (token for name, token in named.items() if name != "unk_token")
        found = ControlTokens.find(_added(tokenizer), steering, _renders(tokenizer, chat_template=template, **judged))
        if not self.model_config.is_multimodal_model:
            return found
        # vLLM itself writes tokens into a message there, where a picture belongs.
        return ControlTokens(found.turns, found.turns, tuple({*found.special, *found.others} - {*found.turns}))

    @cached_property
    def _encoder(self) -> QuotedEncoder:
        backend = getattr(self.get_tokenizer(), "backend_tokenizer", None)
        if backend is None:
            raise NotQuotable("a turn holds a control token, and this model's tokenizer cannot write one as text")
        own = Tokenizer.from_str(backend.to_str())
        own.no_truncation()
        own.no_padding()
        return QuotedEncoder(self._control, own, Tokenizer.from_str)


def _as_learned(tools: Any) -> list[dict[str, Any]]:
    """Returns what vLLM would give a template of a request's tools, as training gave it."""
    try:
        return tool_definitions.read(tools if isinstance(tools, list) else [tools]).tools
    except tool_definitions.NotCallable as error:
        raise VLLMValidationError(f"tools: {error}.", parameter="tools") from None


def _refused(why: object) -> VLLMValidationError:
    return VLLMValidationError(f"{why}. It would control the model: take it out, or write it otherwise.")
