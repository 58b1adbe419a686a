"""A record of parity is whole and of the served model, or says plainly what it is; the first place that differs is
told."""

from __future__ import annotations

import json
import math

import pytest

from slipway_core.protocol import parity
from slipway_core.protocol.artifact import FileEntry
from slipway_core.protocol.parity import Outcome, Piece, Record, RecordError

MODEL = "sha256:" + "a" * 64
TOKENIZER = "sha256:" + "b" * 64


def a_record(tokens: int = 300, *, bf16: float = 0.03) -> Record:
    chat = Piece(
        name="chat", messages=[{"role": "user", "content": "?"}], ids=[0, 5, 6], log_probabilities=[-1, -2],
        begins_itself=True,
    )  # fmt: skip
    text = Piece(name="text", text="长" * tokens, ids=[7] * tokens, log_probabilities=[-3.0] * tokens)
    return Record(artifact=MODEL, tokenizer=TOKENIZER, stop_ids=[1, 2], prefix=0, bf16_median=bf16, pieces=[chat, text])


def same(record: Record, off: float = 0.0) -> dict[str, list[float]]:
    return {piece.name: [value + off for value in piece.log_probabilities] for piece in record.pieces}


def tokens(record: Record, **changed: object) -> Outcome | None:
    ids = {piece.name: piece.ids for piece in record.pieces}
    given = {"tokenizer": TOKENIZER, "stop_ids": [2, 1], "ids": ids, **changed}
    return parity.compare_tokens(record, **given)  # type: ignore[arg-type]


def test_a_record_is_read_as_it_was_written():
    content = a_record().dump().encode()
    assert parity.parse(content, digest=parity.digest_of(content), artifact=MODEL) == a_record()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content[:-40], "it was cut or changed"),
        (lambda content: content.replace(b"-3.0", b"-3.1", 1), "it was cut or changed"),
        (lambda content: content + b" " * parity.LIMIT, "more than 32768 bytes"),
    ],
    ids=["cut", "changed", "too long"],
)
def test_a_record_that_is_not_what_the_evaluation_wrote_is_refused_by_its_digest(change, why):
    content = a_record().dump().encode()
    with pytest.raises(RecordError, match=why):
        parity.parse(change(content), digest=parity.digest_of(content), artifact=MODEL)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("version", 2, "it is of version 2, and this server reads version 1"),
        ("artifact", "sha256:" + "c" * 64, "it is of the model sha256:ccc"),
        ("pieces", [{"name": "x", "text": "y", "ids": [1, 2], "logProbabilities": [0.0]}], "another number"),
        ("prefix", None, "it is damaged: prefix"),
    ],
)
def test_a_record_of_another_version_or_model_says_so(field, value, why):
    document = {**json.loads(a_record().dump()), field: value}
    with pytest.raises(RecordError, match=why):
        parity.parse(json.dumps(document).encode(), digest=None, artifact=MODEL)
    with pytest.raises(RecordError, match="no JSON"):
        parity.parse(b"{", digest=None, artifact=MODEL)
    with pytest.raises(RecordError, match="version None"):
        parity.parse(b"[]", digest=None, artifact=MODEL)


def test_a_record_of_more_than_its_limit_is_not_written():
    with pytest.raises(RecordError, match="32768 are the most"):
        a_record(9000).dump()


def test_what_an_engine_has_no_room_for_is_left_out_and_too_little_proves_nothing():
    record = a_record(300)
    assert record.within(302).tokens == 302
    short = record.within(301)  # The prefix and a token of an answer need their places too.
    assert [piece.name for piece in short.pieces] == ["chat"]
    unknown = parity.enough(short)
    assert unknown is not None
    assert (unknown.passed, unknown.reason) == (
        None, "2 tokens of the record fit into the engine's context, and 256 are needed",
    )  # fmt: skip
    assert parity.enough(a_record(254)) is None


def test_tokens_that_are_the_same_say_nothing():
    assert tokens(a_record()) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ids": {"chat": [0, 0, 5, 6], "text": [7] * 300}}, "chat, token 1: the id is 0, and 5 in the evaluation"),
        ({"ids": {"chat": [0, 5], "text": [7] * 300}}, "chat, token 2: the id is none, and 6 in the evaluation"),
        ({"ids": {"chat": "no template", "text": [7] * 300}}, "chat: no tokens are made of it: no template"),
        ({"stop_ids": [1]}, r"an answer ends at the tokens [1], and at [1, 2] in the evaluation"),
        ({"tokenizer": MODEL}, "the tokenizer's files are not those of the evaluation"),
    ],
)
def test_the_first_token_that_differs_is_told(changed, why):
    assert tokens(a_record(), **changed) == Outcome(False, reason=why)


def test_in_float32_the_median_may_be_off_by_rounding_alone():
    record = a_record()
    assert parity.compare_figures(record, same(record, 4e-4), float32=True).passed
    failed = parity.compare_figures(record, same(record, 6e-4), float32=True)
    assert failed.passed is False
    assert "first at chat, token 0: -0.9994, and -1.0000" in (failed.reason or "")


def test_in_less_than_float32_the_bound_follows_what_rounding_does_to_this_model():
    record = a_record(bf16=0.03)
    assert parity.compare_figures(record, same(record, 0.08), float32=False).passed
    assert parity.compare_figures(record, same(record, 0.1), float32=False).passed is False
    assert a_record(bf16=1e-6).bound(float32=False) == parity.FLOAT32_BOUND, "no less than in float32"


def test_one_token_that_is_far_off_does_not_fail_a_model_and_one_that_is_no_number_is_far_off():
    record = a_record()
    figures = same(record)
    figures["text"][7] = -9.0
    assert parity.compare_figures(record, figures, float32=True).passed
    nothing = {name: [math.nan] * len(row) for name, row in figures.items()}
    assert parity.compare_figures(record, nothing, float32=True) == Outcome(
        False, None,
        "log p differs by inf in the median of 302 tokens, and by 0.0005 at most in an honest engine; first at chat, "
        "token 0: nan, and -1.0000 in the evaluation",
    )  # fmt: skip


def test_the_digest_of_the_tokenizer_is_of_what_makes_tokens_alone():
    files = {name: FileEntry(size=1, sha256="1" * 64) for name in ("tokenizer.json", "chat_template.jinja")}
    other = FileEntry(size=1, sha256="2" * 64)
    digest = parity.tokenizer_digest(files)
    assert parity.tokenizer_digest({**files, "model.safetensors": other, "config.json": other}) == digest
    for name in ("merges.txt", "tokenizer.json", "chat_template.jinja", "special_tokens_map.json", "spiece.model"):
        assert parity.tokenizer_digest({**files, name: other}) != digest
