"""The run's tokenizer: trained from its data, or the base model's, saved once with its chat template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

# Not AutoTokenizer: it imports torch (seconds), and it may choose a class that tokenises otherwise than the
# tokenizer.json beside it. This one is saved under its own name, so training, evaluation and vLLM load the same.
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from slipway_core.protocol.control_tokens import ControlTokens
from slipway_core.protocol.workspace import Workspace
from slipway_host.files import sync_tree
from slipway_trainer.step.errors import BadModel
from slipway_trainer.tokens import chat_format, chat_templates
from slipway_trainer.tokens.chat_rendering import Renderer, Unrenderable
from slipway_trainer.tokens.chat_templates import TURN_END, TURN_START

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SPECIAL_TOKENS = (BOS, EOS, PAD, TURN_START, TURN_END)
MOST_IDS = 1 << 22
"""Sixteen times those of the largest vocabularies: an id above it is a mistake that takes the memory of a machine."""
LONGEST_TOKEN = 24
"""Bytes of a trained token, 8 Chinese characters: no token is a whole sentence that the data repeats."""

Style = Literal["Auto", "ChatML", "Plain", "PlainChinese"]


def train(texts: Iterable[str], *, vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer; it can encode any text. The same texts give the same tokenizer.

    Args:
        vocabulary: entries, special tokens included; fewer when the texts hold too few repeated pairs.
        max_length: longest sequence of the model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=[TURN_START, TURN_END],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def from_folder(folder: Path, field: str) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a model's folder. Raises BadModel that names the field of the plan."""
    if not (folder / "tokenizer.json").is_file():
        raise BadModel(
            f"{field}: {folder} has no tokenizer.json. Save the tokenizer with transformers' save_pretrained first"
        )
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare Exception for a file that it cannot read.
        raise BadModel(f"{field}: the tokenizer in {folder} cannot be loaded: {error}") from None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    if tokenizer.eos_token is None:
        raise BadModel(f"{field}: the tokenizer in {folder} has no eos_token, so nothing can end a document")
    if (ids := id_count(tokenizer)) > MOST_IDS:
        raise BadModel(
            f"{field}: the tokenizer in {folder} gives a token the id {ids - 1}, and a model has a row of weights for "
            f"every id up to the largest. Give its {len(tokenizer)} tokens ids without such holes"
        )
    if tokenizer.pad_token is None:
        # Padding is never a target here (labels are made from lengths, not from token ids), so EOS can serve.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def id_count(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns how many ids there are up to the largest: rows of an embedding, and numbers that a shard must hold.

    Its length is the number of tokens, which is smaller where no token has some of the ids.
    """
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def load(workspace: Workspace) -> PreTrainedTokenizerFast:
    """Loads the tokenizer that `prepare` saved. Raises BadModel when there is none."""
    return from_folder(workspace.tokenizer, "workspace")


def give_template(tokenizer: PreTrainedTokenizerFast, style: Style) -> str:
    """Sets the chat template and returns which: Own, ChatML, Plain or PlainChinese.

    Raises BadModel when there is none of its own and Slipway's cannot be used.
    """
    own = tokenizer.chat_template
    if style == "Auto" and own:
        if isinstance(own, dict):
            tokenizer.chat_template = own.get("default") or next(iter(own.values()))
        return "Own"
    chosen = "ChatML" if style == "Auto" else style
    turn_end = TURN_END if chosen == "ChatML" and _is_one_token(tokenizer, TURN_END) else str(tokenizer.eos_token)
    tokenizer.chat_template = chat_templates.template(
        chosen, turn_end=turn_end, starts_with_bos=_starts_with_bos(tokenizer)
    )
    return chosen


def renderer(tokenizer: PreTrainedTokenizerFast) -> Renderer:
    """Returns what renders conversations as `tokenizer.apply_chat_template` does."""
    added = {str(token): bool(token.special) for token in tokenizer.added_tokens_decoder.values()}
    special = {token for token, is_special in added.items() if is_special} | set(tokenizer.all_special_tokens)
    named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    found = Renderer(
        template=str(tokenizer.chat_template),
        variables=named,
        special_tokens=tuple(sorted(special)),
        arguments=chat_format.of(tokenizer).arguments,
    )

    def render(messages: list[dict[str, Any]], answering: bool) -> str | None:
        try:
            return found.text(messages, add_generation_prompt=answering)
        except (Unrenderable, BadModel):
            return None

    steering = (token for name, token in named.items() if name != "unk_token")
    return replace(found, control=ControlTokens.find(added, steering, render))


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Returns the special token with which the chat template ends an answer; None when it has none."""
    try:
        return renderer(tokenizer).turn_end()
    except BadModel:
        return None


def end_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Returns the ids that end an answer: the template's end-of-turn token first, then EOS."""
    turn_end = end_of_turn(tokenizer)
    ids = [tokenizer.convert_tokens_to_ids(turn_end) if turn_end else None, tokenizer.eos_token_id]
    return list(dict.fromkeys(id_ for id_ in ids if isinstance(id_, int)))


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the tokenizer and its chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    # Where it came from is a path of this machine; it would be part of the digest.
    tokenizer.name_or_path = ""
    tokenizer.init_kwargs.pop("name_or_path", None)
    tokenizer.save_pretrained(str(folder))
    sync_tree(folder)


def _starts_with_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    # Of nothing: not every tokenizer can encode a text that somebody else chooses.
    ids: Any = tokenizer("", add_special_tokens=True)["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _is_one_token(tokenizer: PreTrainedTokenizerFast, text: str) -> bool:
    return any(str(token) == text and token.special for token in tokenizer.added_tokens_decoder.values())
