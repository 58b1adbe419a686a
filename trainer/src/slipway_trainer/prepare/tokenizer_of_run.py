"""The run's tokenizer: trained from its data, or taken from a model; in the workspace with its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.chat_format import ChatFormat
from slipway_core.resources import uris
from slipway_core.resources.model import Scratch
from slipway_fetching import model_cache
from slipway_host.files import replace_folder
from slipway_trainer.data.inputs import Inputs
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.prepare import tokenizer_texts
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Say
from slipway_trainer.step.requester import requester
from slipway_trainer.tokens import added_tokens, answer_markup, chat_format, template_variables, tokenizer
from slipway_trainer.tokens.tokenizer import Style


@dataclass(frozen=True)
class RunTokenizer:
    words: PreTrainedTokenizerFast
    template: str
    """Own, ChatML, Plain or PlainChinese."""
    asked_vocabulary: int | None
    """Entries that the plan asks for; the data may hold too little for them."""

    def publish(self, place: Path, fence: Fence) -> None:
        """Writes it into its place in one rename."""
        temporary = place.with_name(f".{place.name}.tmp-{fence.attempt}")
        tokenizer.save(self.words, temporary)
        fence.check()
        replace_folder(temporary, place)

    def to_document(self, place: Path) -> dict[str, Any]:
        """Returns what the report says of it, once it is in its place."""
        return {
            "digest": artifact.digest_of(artifact.hash_folder(place)),
            "vocabulary": len(self.words),
            "ids": tokenizer.id_count(self.words),
            "asked_vocabulary": self.asked_vocabulary,
            "chat_template": self.template,
            "end_of_turn": tokenizer.end_of_turn(self.words),
            "chat_format": chat_format.of(self.words).model_dump(),
        }


def make(
    plan: Plan, base: Path | None, found: Inputs, characters: int, cache: Path, say: Say, *, tools: bool
) -> RunTokenizer:
    """Returns the tokenizer that the plan asks for.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        characters: of all training data.
        cache: where the tokenizer of an object store or the hub is put.
        tools: whether some of the data has tools, so that it is worth a word how they are called.

    Raises BadModel when there is none that can be used, or when its chat template cannot end an answer and a stage
    learns answers; and BadConfig for an argument that the template does not read, or an added token that the tokenizer
    has.
    """
    scratch, style = plan.model.scratch, plan.model.chat_template
    if scratch is None:
        assert base is not None
        words = tokenizer.from_folder(base, "model.from")
    elif scratch.tokenizer.from_ is not None:
        words = _taken(scratch, scratch.tokenizer.from_, cache, say)
    else:
        words = _trained(scratch, style, found, characters, say)
    if plan.model.add_tokens:
        added_tokens.add(words, plan.model.add_tokens)
        say(f"the tokenizer gets {', '.join(plan.model.add_tokens[:8])}{' …' * (len(plan.model.add_tokens) > 8)}")
    template = tokenizer.give_template(words, style)
    _give_format(words, plan.model.template_arguments, own=template == "Own", tools=tools, say=say)
    if (ids := tokenizer.id_count(words)) > len(words):
        say(f"the tokenizer has {len(words)} tokens with ids up to {ids - 1}: the model gets a row for each id")
    if any(stage.objective != "CausalLM" for stage in plan.stages):
        tokenizer.renderer(words).turn_end()
    return RunTokenizer(words, template, _asked(scratch))


def _taken(scratch: Scratch, uri: str, cache: Path, say: Say) -> PreTrainedTokenizerFast:
    field = "model.scratch.tokenizer.from"
    if uris.parse(uri).remote:
        folder = model_cache.fetch(uri, requester(field), cache, weights=False, say=say)
    else:
        folder = model_folder(uri, field)
    words = tokenizer.from_folder(folder, field)
    words.model_max_length = scratch.max_length
    return words


def _trained(scratch: Scratch, style: Style, found: Inputs, characters: int, say: Say) -> PreTrainedTokenizerFast:
    size = _asked(scratch)
    assert size is not None
    say(f"training a tokenizer of {size} entries")
    texts = tokenizer_texts.texts(found, style, characters)
    words = tokenizer.train(texts, vocabulary=size, max_length=scratch.max_length)
    if len(words) < size:
        say(f"the data holds enough repeated text for {len(words)} entries only")
    return words


def _asked(scratch: Scratch | None) -> int | None:
    return scratch.tokenizer.train.vocab_size if scratch and scratch.tokenizer.train else None


def _give_format(
    words: PreTrainedTokenizerFast, asked: dict[str, Any] | None, *, own: bool, tools: bool, say: Say
) -> None:
    """Has the tokenizer keep the arguments of its template, and how answers under it are marked.

    What is left out is as the model was trained before, as long as it keeps its template.
    """
    before = chat_format.of(words).arguments
    arguments = (before if own else {}) if asked is None else asked
    if arguments != before:
        left = f", not {json.dumps(before)} as in its training before" if before else ""
        say(f"the chat template is given {json.dumps(arguments, ensure_ascii=False)}{left}")
    elif arguments:
        say(f"the chat template is given {json.dumps(arguments, ensure_ascii=False)}, as in its training before")
    _refuse_unread(arguments, str(words.chat_template))
    chat_format.give(words, ChatFormat(arguments=arguments))
    renderer = tokenizer.renderer(words)
    found = ChatFormat(
        arguments=arguments,
        reasoning=answer_markup.reasoning_of(renderer),
        tool_parser=answer_markup.tool_parser_of(renderer, words.get_vocab()),
    )
    chat_format.give(words, found)
    for line in _found(found, tools=tools):
        say(line)


def _refuse_unread(arguments: dict[str, Any], template: str) -> None:
    """Raises BadConfig for arguments that change nothing: they are most likely spelt otherwise."""
    known = template_variables.read_by(template)
    if unread := sorted(arguments.keys() - known):
        reads = f"It reads {', '.join(sorted(known))}" if known else "It reads none"
        raise BadConfig(
            f"model.chatTemplateArguments: the chat template reads no {', '.join(unread)}, so that would change "
            f"nothing. {reads}: mend the name, or leave it out"
        )


def _found(found: ChatFormat, *, tools: bool) -> Iterator[str]:
    if (marks := found.reasoning) is not None:
        yield f"answers have their reasoning between {marks.start} and {marks.end}, apart from what they say"
    if tools and found.tool_parser is not None:
        yield f"answers call tools in the form of {found.tool_parser}"
