"""The model that a run starts from: an existing one, or a new one with its tokenizer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText, Uri


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
    )

    from_: Uri | None = Field(default=None, alias="from")
    """A base model in the format of Hugging Face: a folder, another run, or a repository of the hub or a folder of an
    object store, which are fetched once, into the workspace."""
    scratch: Scratch | None = None
    """A new model with random weights."""
    chat_template: Literal["Auto", "ChatML", "Plain", "PlainChinese"] = "Auto"
    """Auto keeps the model's own template and gives ChatML to a model that has none. Plain writes `User:` and
    `Assistant:`, PlainChinese 系统：, 用户： and 助手：."""
    credentials: ShortText | None = None
    """Secret with the key `token` (hf), AWS variables (s3) or GOOGLE_SERVICE_ACCOUNT_KEY (gs). Locally, the
    environment is used."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such a model is refused."""
