"""NEFTune's noise: how much, on which tokens, and when."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import document_attention, embedding_noise, token_rows
from slipway_trainer.model.embedding_noise import document_lengths
from slipway_trainer.model.next_token_loss import NextTokenLoss

HIDDEN, ALPHA = 64, 5.0


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    document_attention.register()
    return LlamaForCausalLM(config)


def noisy(model: Any, attention: str = "sdpa") -> NextTokenLoss:
    (model if isinstance(model, PreTrainedModel) else model.get_base_model()).set_attn_implementation(attention)
    loss = NextTokenLoss(model, attention=attention).train()
    embedding_noise.attach(loss, ALPHA)
    return loss


def rows(*documents: list[int]) -> Batch:
    """One row of documents of these lengths for each list, of which all is learned."""
    positions = torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in documents])
    predicting = (positions.flatten() > 0).nonzero().flatten() - 1
    return Batch(
        input_ids=torch.ones_like(positions),
        position_ids=positions,
        predicting=predicting,
        targets=torch.ones_like(predicting),
        lengths=tuple(length for lengths in documents for length in lengths),
    )


def added(loss: NextTokenLoss, batch: Batch) -> torch.Tensor:
    """What the embedding of this batch has beyond its weights, [rows, width, hidden]."""
    found: list[torch.Tensor] = []
    embedding = loss.model.get_input_embeddings()  # type: ignore[operator]
    hook = embedding.register_forward_hook(lambda _m, _i, out: found.append(out.detach()))
    loss(batch)
    hook.remove()
    plain = embedding.weight[batch.input_ids].detach()
    return found[0].view_as(plain) - plain


def test_tokens_know_how_long_their_document_is() -> None:
    found = document_lengths(rows([3, 5], [8], [1, 1, 6]))
    assert found.tolist() == [[3] * 3 + [5] * 5, [8] * 8, [1, 1] + [6] * 6]


@pytest.mark.parametrize("attention", ["sdpa", document_attention.CALLS])
def test_an_unpacked_batch_has_the_noise_of_transformers(attention: str) -> None:
    from transformers.integrations.neftune import neftune_post_forward_hook

    batch = rows([16], [16], [16])
    loss = noisy(llama(), attention)
    torch.manual_seed(7)
    found = added(loss, batch)
    theirs = llama().get_input_embeddings()
    theirs.neftune_noise_alpha = ALPHA  # type: ignore[assignment]
    theirs.register_forward_hook(neftune_post_forward_hook)
    torch.manual_seed(7)
    expected = theirs.train()(batch.input_ids) - theirs.weight[batch.input_ids]
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["sdpa", document_attention.CALLS])
def test_a_document_is_as_noisy_packed_as_alone(attention: str) -> None:
    found = added(noisy(llama(), attention), rows([4, 40, 4])).abs()[0]
    for part, length in ((found[:4], 4), (found[4:44], 40), (found[44:], 4)):
        most = ALPHA / (length * HIDDEN) ** 0.5
        assert 0.95 * most < part.max() <= most * (1 + 1e-6)
        assert part.mean() == pytest.approx(most / 2, rel=0.15)


def test_there_is_none_in_evaluation_nor_outside_of_a_training_pass() -> None:
    loss = noisy(llama())
    batch = rows([8], [8])
    assert added(loss, batch).any()
    before = torch.get_rng_state()
    loss.model(input_ids=batch.input_ids)  # As a generation or a probe would.
    assert not added(loss.eval(), batch).any()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pass_that_fails_leaves_no_noise_behind() -> None:
    loss = noisy(llama())
    batch = rows([8])
    with pytest.raises(IndexError):
        loss(replace(batch, input_ids=torch.full((1, 8), 48)))
    embedding = loss.model.get_input_embeddings()  # type: ignore[operator]
    assert torch.equal(embedding(batch.input_ids), embedding.weight[batch.input_ids])


def test_computing_activations_twice_meets_the_same_noise() -> None:
    gradients = []
    for checkpointing in (False, True):
        loss = noisy(llama())
        if checkpointing:
            loss.model.gradient_checkpointing_enable(  # type: ignore[operator]
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        torch.manual_seed(7)
        loss(rows([8, 8])).backward()
        gradients.append([weight.grad for weight in loss.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_added_beside_an_adapter_and_its_rows() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    token_rows.attach(adapted, [1, 2])
    rows_of = getattr(adapted.get_base_model(), token_rows.NAME)
    with torch.no_grad():
        rows_of.input.fill_(100.0)
    found = added(noisy(adapted), rows([8], [8])) - 100.0
    most = ALPHA / (8 * HIDDEN) ** 0.5
    assert 0.9 * most < found.abs().max() <= most + 1e-4
