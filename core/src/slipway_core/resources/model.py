"""The model that a run starts from: an existing one, or a new one with its tokenizer."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText, Uri

NEW_TOKEN: Final = r"^\S(.*\S)?$"
NewToken = Annotated[str, Field(pattern=NEW_TOKEN, min_length=1, max_length=64)]
_MISREAD: Final = ("True", "False", "None")
_ARGUMENT: Final = "^[A-Za-z_][A-Za-z0-9_]*$"
TAKEN_ARGUMENTS: Final = (
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs", "bos_token", "eos_token", "unk_token",
    "sep_token", "pad_token", "cls_token", "mask_token", "raise_exception", "strftime_now",
)  # fmt: skip
"""What transformers and vLLM give a chat template, or take for themselves."""


class TokenizerTraining(Api):
    vocab_size: int = Field(default=4096, ge=300, le=262144)
    """Entries of the byte-level BPE vocabulary, special tokens included."""


class Tokenizer(Api):
    """Where a new model has its tokenizer from."""

    rules: ClassVar = (
        Rule(
            "has(self.train) != has(self.from)",
            "set exactly one of train and from: train makes a new tokenizer from the training data, "
            "from takes one that exists",
            lambda self: (self.train is None) != (self.from_ is None),
        ),
    )

    train: TokenizerTraining | None = None
    """Train a byte-level BPE tokenizer on the training data of all stages."""
    from_: Uri | None = Field(default=None, alias="from")
    """A folder or hub repository that holds `tokenizer.json`."""


class Scratch(Api):
    """A new model with random weights."""

    rules: ClassVar = (
        Rule(
            "(has(self.hiddenSize) ? self.hiddenSize : 256) % (has(self.heads) ? self.heads : 4) == 0",
            "hiddenSize must be a multiple of heads",
            lambda self: self.hidden_size % self.heads == 0,
            "hiddenSize",
            lambda self: f"hiddenSize {self.hidden_size}, heads {self.heads}",
        ),
        Rule(
            "!has(self.kvHeads) || (has(self.heads) ? self.heads : 4) % self.kvHeads == 0",
            "heads must be a multiple of kvHeads",
            lambda self: self.kv_heads is None or self.heads % self.kv_heads == 0,
            "kvHeads",
            lambda self: f"heads {self.heads}, kvHeads {self.kv_heads}",
        ),
    )

    architecture: Literal["llama", "qwen2", "mistral"] = "llama"
    """Model family of transformers."""
    layers: int = Field(default=4, ge=1, le=256)
    """Transformer blocks."""
    hidden_size: int = Field(default=256, ge=16, le=32768)
    """Width of the residual stream."""
    heads: int = Field(default=4, ge=1, le=512)
    """Attention heads. hiddenSize / heads is the head size; vLLM on a CPU serves 32, 64, 80, 96, 112, 128, 192
    and 256."""
    kv_heads: int | None = Field(default=None, ge=1, le=512)
    """Key and value heads of grouped-query attention; as many as heads when left out."""
    intermediate_size: int | None = Field(default=None, ge=16, le=131072)
    """Width of the feed-forward block; 8/3 of hiddenSize, rounded up to a multiple of 32, when left out."""
    max_length: int = Field(default=1024, ge=16, le=1048576)
    """Longest sequence in tokens that the model takes (max_position_embeddings)."""
    tie_embeddings: bool = True
    """Use the input embedding as the output layer too."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary position embedding."""
    tokenizer: Tokenizer


class Model(Api):
    """Where the first stage starts."""

    rules: ClassVar = (
        Rule(
            "has(self.from) != has(self.scratch)",
            "set exactly one of from and scratch: from takes a model that exists, scratch makes a new one",
            lambda self: (self.from_ is None) != (self.scratch is None),
        ),
        Rule(
            "!has(self.chatTemplateArguments) || !self.chatTemplateArguments.exists(k, k in ["
            + ", ".join(f"'{name}'" for name in TAKEN_ARGUMENTS)
            + "])",
            "chatTemplateArguments must not have what the conversation and the tokenizer give the template "
            f"({', '.join(TAKEN_ARGUMENTS)}): leave it out",
            lambda self: not _taken(self),
            "chatTemplateArguments",
            lambda self: ", ".join(_taken(self)),
        ),
        Rule(
            f"!has(self.chatTemplateArguments) || self.chatTemplateArguments.all(k, k.matches('{_ARGUMENT}'))",
            "chatTemplateArguments are variables of the template: letters, digits and _, and no digit first",
            lambda self: not _no_variables(self),
            "chatTemplateArguments",
            lambda self: ", ".join(map(repr, _no_variables(self))),
        ),
        Rule(
            "!has(self.chatTemplateArguments) || self.chatTemplateArguments.all(k, "
            "!(self.chatTemplateArguments[k] in ['True', 'False', 'None']))",
            "True, False and None in chatTemplateArguments would be texts, which a template takes for true: write "
            "true, false or null",
            lambda self: not _misread(self),
            "chatTemplateArguments",
            lambda self: ", ".join(_misread(self)),
        ),
        Rule(
            "!has(self.addTokens) || self.addTokens.all(t, self.addTokens.exists_one(u, u == t))",
            "addTokens has a token twice",
            lambda self: not _twice(self),
            "addTokens",
            lambda self: ", ".join(map(repr, _twice(self))),
        ),
    )

    from_: Uri | None = Field(default=None, alias="from")
    """A base model in the format of Hugging Face: a folder, another run, or a repository of the hub or a folder of an
    object store, which are fetched once, into the workspace."""
    scratch: Scratch | None = None
    """A new model with random weights."""
    add_tokens: Annotated[list[NewToken], Field(max_length=256)] | None = None
    """Tokens that the tokenizer gets, such as `<tool>`: each is one token wherever a text holds it, and a word like any
    other, not a special token, so that it is learned, generated and shown. Its rows start as the mean of all others and
    are trained, beside an adapter too."""
    chat_template: Literal["Auto", "ChatML", "Plain", "PlainChinese"] = "Auto"
    """Auto keeps the model's own template and gives ChatML to a model that has none. Plain writes `User:` and
    `Assistant:`, PlainChinese 系统：, 用户： and 助手：."""
    chat_template_arguments: (
        Annotated[dict[ShortText, Annotated[str, Field(max_length=1024)]], Field(max_length=16)] | None
    ) = None
    """What the chat template is given beside the conversation, such as `enable_thinking: "false"`: in training, judging
    and serving alike. A value that is JSON is read as JSON, any other is text. Left out, they are those that the model
    was trained with, where it was trained by Slipway."""
    credentials: ShortText | None = None
    """Secret with the key `token` (hf), AWS variables (s3) or GOOGLE_SERVICE_ACCOUNT_KEY (gs). Locally, the
    environment is used."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such a model is refused."""

    @property
    def template_arguments(self) -> dict[str, Any] | None:
        """Returns the arguments as the template is given them; None where they are left out."""
        given = self.chat_template_arguments
        return None if given is None else {name: _value(text) for name, text in given.items()}


def _given(model: Model) -> dict[str, str]:
    return model.chat_template_arguments or {}


def _taken(model: Model) -> list[str]:
    return sorted(name for name in _given(model) if name in TAKEN_ARGUMENTS)


def _no_variables(model: Model) -> list[str]:
    return sorted(name for name in _given(model) if not re.match(_ARGUMENT, name))


def _misread(model: Model) -> list[str]:
    return sorted(f"{name}: {text}" for name, text in _given(model).items() if text in _MISREAD)


def _twice(model: Model) -> list[str]:
    tokens = model.add_tokens or []
    return sorted({token for token in tokens if tokens.count(token) > 1})


def _value(text: str) -> Any:
    """Returns what a JSON text says; the text itself where it is none, or says what no file of JSON in UTF-8 can hold:
    a number beyond all (1e999) or half a character."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return text
    return found
