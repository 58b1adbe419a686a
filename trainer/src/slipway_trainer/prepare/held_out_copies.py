"""The held-out data as `evaluate` reads it: copied into the workspace, so that a later edit of its sources changes
nothing, and described in the report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from slipway_core.protocol.sketch import sketch_of
from slipway_core.protocol.workspace import Workspace
from slipway_host.files import json_lines, write_atomically
from slipway_trainer.data.held_out import HeldConversation, HeldDocument, HeldOut, HeldPrompt, digest_of_copies
from slipway_trainer.data.inputs import Inputs
from slipway_trainer.data.rows import Turn

GENERAL_TEXT = "package://general-text"


def copy(held: HeldOut, workspace: Workspace) -> dict[str, str]:
    """Writes what is held out where `evaluate` reads it and returns the SHA-256 of each file by its name."""
    workspace.evaluation_data.mkdir(parents=True, exist_ok=True)
    documents: list[dict[str, Any]] = [
        {**_labels(one), "source": one.source, "text": one.row.text} for one in held.documents
    ]
    conversations = [
        {
            **_labels(one),
            "source": one.source,
            "turns": [_turn(turn) for turn in one.row.turns],
            **({"tools": json.loads(one.row.tools)} if one.row.tools else {}),
        }
        for one in held.conversations
    ]
    # In the order in which they stand there: a template writes the fields of tools and calls in theirs.
    prompts: list[dict[str, Any]] = [
        {
            **({"answer": prompt.row.answer} if prompt.row.answer else {}),
            **({"others": list(prompt.row.others)} if prompt.row.others else {}),
            **({"checks": checks} if (checks := prompt.row.checks.to_document()) else {}),
            **_labels(prompt),
            "conversations": prompt.row.messages,
            "recall": prompt.recall,
            "source": prompt.source,
            **({"tools": json.loads(prompt.row.tools)} if prompt.row.tools else {}),
        }
        for prompt in held.prompts
    ]
    digests = {}
    workspace.evaluation_conversations.unlink(missing_ok=True)
    for path, found in (
        (workspace.evaluation_documents, documents),
        (workspace.evaluation_prompts, prompts),
        # Only where there are some: the digest of all others is what it was before there were any.
        *([(workspace.evaluation_conversations, conversations)] if conversations else []),
    ):
        text = json_lines(found)
        write_atomically(path, text)
        digests[path.name] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def _labels(one: HeldDocument | HeldConversation | HeldPrompt) -> dict[str, str]:
    return one.row.labels.to_document() | ({"of": one.of} if one.of is not None else {})


def _turn(turn: Turn) -> dict[str, Any]:
    """Returns what `Turn` is made of, without what says nothing."""
    calls = {"tool_calls": [asdict(call) for call in turn.tool_calls]} if turn.tool_calls else {}
    plain = {name: value for name, value in vars(turn).items() if name != "tool_calls" and value is not None}
    return (plain if not turn.learned else {n: v for n, v in plain.items() if n != "learned"}) | calls


def documents_report(
    held: HeldOut,
    found: Inputs,
    copies: dict[str, str],
    *,
    dropped: int,
    discounted: int,
    base: dict[str, Any],
    tasks: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns what the report says of the copies, as `copy` returned them, and of the documents in them.

    Args:
        dropped: documents and conversations that were left out, since they stand in the training data or in that of
            the base model.
        discounted: texts that share boilerplate with it, and no more.
        base: what is known of whether the base model has learned them.
        tasks: what there is to say of the tasks of the evaluation.
    """
    return {
        "documents": len(held.documents),
        **({"conversations": len(held.conversations)} if held.conversations else {}),
        "dropped": dropped,
        "discounted": discounted,
        "bytes": sum(len(document.row.text.encode()) for document in held.documents),
        "digest": digest_of_copies(copies),
        "sketch": sketch_of(_texts(held, found)),
        "copies": copies,
        **({"base": base} if base else {}),
        **({"tasks": tasks} if tasks else {}),
        "files": [entry for source in found.evaluation for entry in source.to_documents(held.forms)],
    }


def _texts(held: HeldOut, found: Inputs) -> Iterator[str]:
    """Yields what another run's held-out data may have too: each document, each conversation, and each prompt with its
    answer. Not the text that comes with the trainer: whoever takes other documents may go on to ask what a model has
    forgotten of it, unless it is all that there is."""
    common = {file.name for source in found.evaluation if source.uri == GENERAL_TEXT for file in source.files}
    own = [document for document in held.documents if document.name not in common]
    alone = not (own or held.conversations or held.prompts or held.tasks)
    yield from (document.row.text for document in (held.documents if alone else own))
    yield from (one.text for one in held.tasks)
    for conversation in held.conversations:
        yield json.dumps([[turn.role, turn.content] for turn in conversation.row.turns], ensure_ascii=False)
    yield from (json.dumps([prompt.row.messages, prompt.row.answer], ensure_ascii=False) for prompt in held.prompts)


def prompts_report(held: HeldOut, found: Inputs, recall_overlap: int) -> dict[str, Any]:
    """Returns what the report says of the prompts."""
    return {
        "prompts": len(held.prompts),
        "recall": sum(prompt.recall for prompt in held.prompts),
        "recall_overlap": recall_overlap,
        "files": [entry for source in found.prompts for entry in source.to_documents(held.forms)],
    }
