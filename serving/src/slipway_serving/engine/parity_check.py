"""Whether this server is the model that was judged: it makes of public texts what the evaluation made, and compares.

It asks itself as it answers clients: conversations through the renderer of `/v1/chat/completions`, texts through that
of `/v1/completions`, and the ids through the engine. It does so in the process, before the server listens.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from pathlib import Path
from typing import Any

from slipway_core.protocol import parity
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.parity import Outcome, Piece, Record, RecordError
from slipway_serving.settings import Settings, SettingsError

logger = logging.getLogger(__name__)


def read(path: Path, digest: str | None, manifest: Manifest) -> Record | Outcome:
    """Returns the record, or why there is none that says anything of this model."""
    if path.is_dir():
        # A kubelet makes one where a pod mounts a file of a claim that is not there.
        return Outcome(None, reason="there is a folder in its place; put the file there, without that folder")
    try:
        with path.open("rb") as file:
            content = file.read(parity.LIMIT + 1)
        return parity.parse(content, digest=digest, artifact=manifest.digest)
    except OSError as error:
        return Outcome(None, reason=f"the record {path} cannot be read: {error.strerror}")
    except RecordError as error:
        return Outcome(None, reason=f"the record {path} cannot be used: {error}")


async def at_the_start(settings: Settings, manifest: Manifest, client: Any, state: Any) -> Outcome:
    """Checks the server before anybody is answered, and logs what came of it.

    Raises SettingsError where it is another model than the one that was judged: another start would say the same.
    """
    started = time.monotonic()
    if settings.parity is None:
        outcome = Outcome(None, reason="no record of the evaluation was given")
    else:
        record = read(settings.parity, settings.parity_digest, manifest)
        outcome = record if isinstance(record, Outcome) else await check(record, manifest, client, state)
    if outcome.passed is False:
        raise SettingsError(f"{parity.FAILED} this is not the model that was judged: {outcome.reason}")
    if outcome.passed is None:
        logger.warning("Whether this is the model that was judged is not known: %s.", outcome.reason)
    else:
        seconds = time.monotonic() - started
        logger.info("This is the model that was judged: log p differs by %.2g (%.1f s).", outcome.median, seconds)
    return outcome


async def check(record: Record, manifest: Manifest, client: Any, state: Any) -> Outcome:
    """Holds a server against a record.

    Args:
        record: of this model.
        manifest: of the artifact, every file of which was verified.
        client: vLLM's engine.
        state: of vLLM's application, with its renderers.
    """
    record = record.within(client.model_config.max_model_len)
    if (unknown := parity.enough(record)) is not None:
        return unknown
    ids = {piece.name: await _ids(piece, state) for piece in record.pieces}
    tokenizer = parity.tokenizer_digest(manifest.files)
    if differs := parity.compare_tokens(record, tokenizer=tokenizer, stop_ids=_stop_ids(client), ids=ids):
        return differs
    rows = await asyncio.gather(*(_log_probabilities(piece.inputs(record.prefix), client) for piece in record.pieces))
    own = {piece.name: row for piece, row in zip(record.pieces, rows, strict=True)}
    return parity.compare_figures(record, own, float32=str(client.model_config.dtype) == "torch.float32")


async def _ids(piece: Piece, state: Any) -> list[int] | str:
    """Returns what this server makes of a piece, or why it makes nothing of it."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse

    try:
        if piece.messages is not None:
            messages: Any = [dict(message) for message in piece.messages]
            asked = ChatCompletionRequest(messages=messages, max_completion_tokens=1)  # pyright: ignore[reportCallIssue]
            rendered = await state.openai_serving_chat.render_chat_request(asked)
            rendered = rendered if isinstance(rendered, ErrorResponse) else rendered[1]
        else:
            text = CompletionRequest(prompt=piece.text, add_special_tokens=False, max_tokens=1)  # pyright: ignore
            rendered = await state.openai_serving_completion.render_completion_request(text)
    except Exception as error:
        # Whatever a template or a renderer raises is its answer to the piece.
        return f"{type(error).__name__}: {error}"
    return rendered.error.message if isinstance(rendered, ErrorResponse) else list(rendered[0]["prompt_token_ids"])


def _stop_ids(client: Any) -> list[int]:
    """Returns the tokens that end an answer of a request that names none."""
    from vllm import SamplingParams

    sampling = SamplingParams()
    words = client.input_processor
    sampling.update_from_generation_config(words.generation_config_fields, words.renderer.get_eos_token_id())
    return sorted(sampling.all_stop_token_ids)


async def _log_probabilities(inputs: list[int], client: Any) -> list[float]:
    """Returns the log-probability of every id but the first, in nats."""
    from vllm import SamplingParams

    # What is cached was computed for somebody else: each position of this prompt is computed now.
    sampling = SamplingParams(
        temperature=0, max_tokens=1, prompt_logprobs=0, skip_reading_prefix_cache=True, detokenize=False
    )
    prompt, name = {"prompt_token_ids": inputs}, f"parity-{uuid.uuid4().hex}"
    found: Any = None
    async for output in client.generate(prompt, sampling, name):
        found = output.prompt_logprobs if output.prompt_logprobs is not None else found
    rows = list(found or ())[1:]
    if len(rows) != len(inputs) - 1:
        return [math.nan] * (len(inputs) - 1)
    return [row[token].logprob for row, token in zip(rows, inputs[1:], strict=True)]
