"""The model of each stage: new or loaded, made of what the stages before it left, with its adapter on top."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.model import adapter_targets, four_bits, prompt_adapters, token_rows
from slipway_trainer.model.adapters import add_adapter, load_adapter
from slipway_trainer.model.attention import set_attention
from slipway_trainer.model.blueprint import check_code
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.context_length import check_length
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.model.new_model import scratch_config
from slipway_trainer.model.pieces import Pieces, known_to_peft, vocabulary_whole
from slipway_trainer.model.vocabulary import fit_vocabulary, start_rows
from slipway_trainer.step.errors import BadModel, first_line
from slipway_trainer.tokens import added_tokens, tokenizer

if TYPE_CHECKING:
    from peft import PeftModel


def load_for_stage(
    plan: Plan,
    ws: Workspace,
    stage: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    tokens: np.ndarray | None = None,
    target_modules: list[str] | None = None,
    pieces: Pieces | None = None,
) -> PreTrainedModel | PeftModel:
    """Returns the model that a stage starts from, with a fresh adapter if the stage trains one.

    The same plan gives the same weights, bit for bit: what is random comes from the stage's seed.

    Args:
        dtype: of the weights; a new model is made in float32 and then converted.
        tokens: that the stage learns from: with an adapter, the rows of those that the base never learned are trained.
            None are when it is left out.
        target_modules: of the adapter; the ones that the stage names when left out.
        pieces: has the weights in pieces from the start (ZeRO-3); whole on this rank when None.

    Raises BadModel when the base cannot be used, BadConfig when the stage asks for what the model has not.
    """
    settings = plan.stage(stage)
    before = plan.stage_before(stage)
    words = tokenizer.load(ws)
    held = four_bits.held_by(settings)
    model = load_composed(
        plan, ws, before.name if before else None, dtype=None if held else dtype, seed=settings.seed, pieces=pieces
    )
    check_length(model.config, settings)
    with vocabulary_whole(model, pieces):
        known = fit_vocabulary(model, words)
    targets = (target_modules or adapter_targets.resolve(model, settings)) if settings.adapter else []
    if held:
        four_bits.check(model, settings)
        four_bits.quantize(model, settings, dtype)
        cast_weights(model, dtype)
    set_attention(model, settings.max_length, device)
    if settings.virtual_tokens:
        prompt_adapters.use_plain_attention(model)
    model.config.use_cache = False
    model.to(device)  # type: ignore[arg-type]
    if settings.adapter is None:
        return model
    added = added_tokens.ids(words, plan.model.add_tokens)
    rows: list[int] = []
    if tokens is not None:
        with vocabulary_whole(model, pieces):
            rows = token_rows.untrained(model, words, tokens, known=known, added=added)
    with nullcontext() if pieces is None else known_to_peft():
        adapted = add_adapter(model, settings, targets)
    if rows:
        token_rows.attach(adapted, rows)
    if pieces is not None:
        pieces.cut(adapted.parameters())
    return adapted


def load_composed(
    plan: Plan,
    ws: Workspace,
    upto: str | None,
    *,
    dtype: torch.dtype | None = torch.float32,
    seed: int = 0,
    pieces: Pieces | None = None,
) -> PreTrainedModel:
    """Returns the full model as it is after the stage `upto`, adapters merged; before all stages when it is None.

    Args:
        dtype: of the weights; the one that they are stored in when None.
        pieces: has the weights in pieces of their own dtype; whole when None.

    Raises BadModel when a stage before has not left what it should have.
    """
    if upto is None:
        return _first(plan, ws, dtype=dtype, seed=seed, pieces=pieces)
    folder = ws.stage(upto)
    if _read_done(folder.done, upto)["kind"] == "model":
        return load_folder(folder.model, dtype=dtype, trust_remote_code=plan.model.trust_remote_code, pieces=pieces)
    before, stage = plan.stage_before(upto), plan.stage(upto)
    held = four_bits.held_by(stage)
    name = before.name if before else None
    if held:
        # Quantised from the precision that they are stored in, so they are cut after that.
        base = load_composed(plan, ws, name, dtype=None, seed=stage.seed)
        fit_vocabulary(base, tokenizer.load(ws))
        # The adapter has learned what the 4 bits have left out, too.
        four_bits.round_trip(base, stage, dtype)
        if dtype is not None:
            cast_weights(base, dtype)
        merged = merge(base, folder.adapter)
        if pieces is not None:
            pieces.cut(merged.parameters())
        return merged
    base = load_composed(plan, ws, name, dtype=dtype, seed=stage.seed, pieces=pieces)
    with vocabulary_whole(base, pieces):
        fit_vocabulary(base, tokenizer.load(ws))
    return merge(base, folder.adapter, pieces)


def load_as_trained(plan: Plan, ws: Workspace, name: str, *, dtype: torch.dtype) -> PeftModel:
    """Returns the model of a stage that has ended with an adapter as the stage had it: with the adapter on its base,
    which is in 4 bits where it was."""
    before, stage = plan.stage_before(name), plan.stage(name)
    held = four_bits.held_by(stage)
    base = load_composed(plan, ws, before.name if before else None, dtype=None if held else dtype, seed=stage.seed)
    fit_vocabulary(base, tokenizer.load(ws))
    if held:
        four_bits.quantize(base, stage, dtype)
        cast_weights(base, dtype)
    folder = ws.stage(name).adapter
    token_rows.merge(base, folder)
    return load_adapter(base, folder)


def load_final(plan: Plan, ws: Workspace, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Returns the full model after the last stage, in float32 unless told otherwise; what `export` writes. That is the
    base where there is no stage."""
    return load_composed(plan, ws, plan.last_stage.name if plan.last_stage else None, dtype=dtype)


def merge(base: PreTrainedModel, adapter: Path, pieces: Pieces | None = None) -> PreTrainedModel:
    """Returns the base with the adapter of a folder folded into its weights, whole or in pieces as they are."""
    with nullcontext() if pieces is None else known_to_peft():
        adapted = load_adapter(base, adapter)
    merged = merge_adapter(adapted)
    with vocabulary_whole(merged, pieces):
        token_rows.merge(merged, adapter)
    # An adapter freezes what it stands on; a stage that comes next may train all of it.
    return merged.requires_grad_(True)


def load_folder(
    folder: Path, *, dtype: torch.dtype | None, trust_remote_code: bool = False, pieces: Pieces | None = None
) -> PreTrainedModel:
    """Loads a model in the format of Hugging Face, from safetensors alone, in the dtype of its files when that is None;
    in pieces where they are given, one weight after the other.

    Raises BadModel for a folder without config.json or safetensors, or with code of its own that was not asked for.
    """
    check_code(folder, trust_remote_code=trust_remote_code)
    if not any(folder.glob("*.safetensors")):
        raise BadModel(
            f"model.from: {folder}: holds no *.safetensors. Other formats can run code when they are loaded: "
            "convert it, or take a revision with safetensors"
        )
    try:
        with nullcontext() if pieces is None else pieces.while_loading():
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=dtype or "auto",
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadModel(f"model.from: {folder}: cannot be loaded: {first_line(error)}") from None
    if pieces is not None:
        pieces.cut(model.parameters())
    return model


def _first(
    plan: Plan, ws: Workspace, *, dtype: torch.dtype | None, seed: int, pieces: Pieces | None
) -> PreTrainedModel:
    if plan.model.scratch is not None:
        torch.manual_seed(seed)
        config = scratch_config(plan.model.scratch, tokenizer.load(ws))
        with nullcontext() if pieces is None else pieces.while_making():
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if pieces is not None:
            pieces.cut(model.parameters())
        elif dtype is not None:
            cast_weights(model, dtype)
        return model
    assert plan.model.from_ is not None
    folder = model_folder(plan.model.from_, fetched=ws.fetched_models)
    model = load_folder(folder, dtype=dtype, trust_remote_code=plan.model.trust_remote_code, pieces=pieces)
    if plan.model.add_tokens:
        with vocabulary_whole(model, pieces):
            start_rows(model, added_tokens.ids(tokenizer.load(ws), plan.model.add_tokens))
    return model


def _read_done(path: Path, stage: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"stage {stage} has not ended: {path}: {error}. Start the run again to train it") from None
