"""The record of a model: the ids and figures of the judge, whatever precision the model was loaded in."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.unit.trainer.tiny_model import make_exported, make_model, make_tokenizer

from slipway_core.protocol import parity as protocol
from slipway_core.protocol.artifact import FileEntry, Manifest
from slipway_trainer.evaluation import parity
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.tokens import tokenizer

MANIFEST = Manifest(
    digest="sha256:" + "a" * 64,
    files={"tokenizer.json": FileEntry(size=1, sha256="1" * 64)},
    run="tiny",
    plan_digest="sha256:" + "0" * 64,
    created_at="2026-01-01T00:00:00Z",
)


@pytest.fixture
def exported() -> ExportedModel:
    return make_exported(positions=512)


def test_the_record_has_enough_tokens_and_fits(exported: ExportedModel) -> None:
    record = parity.compute(exported, MANIFEST)
    assert protocol.LEAST_TOKENS * 2 <= record.tokens <= 900
    content = record.dump().encode()
    assert len(content) <= protocol.LIMIT
    assert protocol.parse(content, digest=protocol.digest_of(content), artifact=MANIFEST.digest) == record
    assert record.stop_ids == exported.end_tokens
    assert 1e-4 < record.bf16_median < 1


def test_figures_are_those_of_one_text_at_a_time_in_float32(exported: ExportedModel) -> None:
    model = copy.deepcopy(exported.model)
    record = parity.compute(exported, MANIFEST)
    for piece in record.pieces:
        ids = torch.tensor([piece.inputs(record.prefix)])
        with torch.no_grad():
            own = torch.log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
        wanted = own.gather(-1, ids[0, 1:, None])[:, 0].tolist()
        assert piece.log_probabilities == pytest.approx(wanted, abs=2e-5)


def test_the_ids_of_a_conversation_are_those_of_its_prompt(exported: ExportedModel) -> None:
    pieces = {piece.name: piece for piece in parity.compute(exported, MANIFEST).pieces}
    piece = pieces["chat-turns"]
    text = exported.tokenizer.apply_chat_template(piece.messages, tokenize=False, add_generation_prompt=True)
    assert piece.ids == exported.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert piece.begins_itself


def test_a_model_in_bf16_is_widened_a_block_at_a_time_and_comes_out_as_it_was(exported: ExportedModel) -> None:
    narrow = exported.model.to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in narrow.named_parameters()}
    wide = copy.deepcopy(narrow).float()
    rows = [[1, 5, 9, 12], [3, 4]]
    widest = 0

    def count(*_: object) -> None:
        nonlocal widest
        blocks = narrow.model.layers
        wide_ones = [all(w.dtype == torch.float32 for w in block.parameters()) for block in blocks]
        widest = max(widest, sum(wide_ones))

    narrow.model.layers[1].mlp.register_forward_hook(count)
    with torch.no_grad(), parity.in_float32(narrow):
        found = parity.log_probabilities(narrow, rows)
    with torch.no_grad():
        wanted = parity.log_probabilities(wide, rows)
    assert widest == 1
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in narrow.named_parameters())


def test_a_template_that_writes_the_date_is_not_rendered_again_tomorrow(exported: ExportedModel) -> None:
    template = exported.tokenizer.chat_template
    assert isinstance(template, str)
    exported.tokenizer.chat_template = "{% set today = strftime_now('%d %b %Y') %}" + template
    chats = [piece for piece in parity.compute(exported, MANIFEST).pieces if piece.name.startswith("chat-")]
    assert chats
    assert all(piece.messages is None and piece.text for piece in chats)


def test_a_short_model_gets_what_fits_into_it() -> None:
    record = parity.compute(make_exported(positions=64), MANIFEST)
    assert record.pieces
    assert all(len(piece.inputs(record.prefix)) < 64 for piece in record.pieces)


def test_a_model_that_computes_nothing_has_no_record() -> None:
    words = make_tokenizer()
    model = make_model(words, positions=512)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(parity.NoRecord, match="NaN"):
        parity.compute(ExportedModel(model, words, tokenizer.end_ids(words)), MANIFEST)
