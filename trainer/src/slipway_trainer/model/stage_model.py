"""The model of each stage: new or loaded, made of what the stages before it left, with its adapter on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.model import Scratch
from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.model import document_attention
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadConfig, BadModel, first_line
from slipway_trainer.tokens import tokenizer

if TYPE_CHECKING:
    from peft import PeftModel

VOCABULARY_STEP = 64
"""Rows of an embedding are a multiple of it: matrix products are slow on odd sizes."""


def load_for_stage(
    plan: Plan,
    ws: Workspace,
    stage: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    target_modules: list[str] | None = None,
) -> PreTrainedModel | PeftModel:
    """Returns the model that a stage starts from, with a fresh adapter if the stage trains one.

    The same plan gives the same weights, bit for bit: what is random comes from the stage's seed.

    Args:
        dtype: of the weights; a new model is made in float32 and then converted.
        target_modules: of the adapter; the ones that the stage names when left out.

    Raises BadModel when the base cannot be used, BadConfig when the stage asks for what the model has not.
    """
    settings = plan.stage(stage)
    before = plan.stage_before(stage)
    words = tokenizer.load(ws)
    model = load_composed(plan, ws, before.name if before else None, dtype=dtype, seed=settings.seed)
    check_length(model.config, settings)
    fit_vocabulary(model, words)
    set_attention(model, settings.max_length, device)
    model.config.use_cache = False
    model.to(device)  # type: ignore[arg-type]
    if settings.adapter is None:
        return model
    targets = target_modules or resolve_targets(model, settings)
    return add_adapter(model, settings.adapter, targets, seed=settings.seed)


def load_composed(
    plan: Plan, ws: Workspace, upto: str | None, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """Returns the full model as it is after the stage `upto`, adapters merged; before all stages when it is None.

    Raises BadModel when a stage before has not left what it should have.
    """
    if upto is None:
        return _first(plan, ws, dtype=dtype, seed=seed)
    folder = ws.stage(upto)
    if _read_done(folder.done, upto)["kind"] == "model":
        return load_folder(folder.model, dtype=dtype, trust_remote_code=plan.model.trust_remote_code)
    before = plan.stage_before(upto)
    base = load_composed(plan, ws, before.name if before else None, dtype=dtype, seed=plan.stage(upto).seed)
    fit_vocabulary(base, tokenizer.load(ws))
    return merge(base, folder.adapter)


def load_final(plan: Plan, ws: Workspace, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Returns the full model after the last stage, in float32 unless told otherwise; what `export` writes."""
    return load_composed(plan, ws, plan.stages[-1].name, dtype=dtype)


def merge(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Returns the base with the adapter of a folder folded into its weights."""
    from peft import PeftModel

    merged = merge_adapter(PeftModel.from_pretrained(base, str(adapter)))
    # An adapter freezes what it stands on; a stage that comes next may train all of it.
    return merged.requires_grad_(True)


def load_folder(folder: Path, *, dtype: torch.dtype, trust_remote_code: bool = False) -> PreTrainedModel:
    """Loads a model in the format of Hugging Face, from safetensors alone.

    Raises BadModel for a folder without config.json or safetensors, or with code of its own that was not asked for.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"model.from: {folder}: has no config.json, so it is no model of Hugging Face") from None
    except ValueError as error:
        raise BadModel(f"model.from: {folder}/config.json: is not JSON: {error}") from None
    if "auto_map" in config and not trust_remote_code:
        raise BadModel(
            f"model.from: {folder}: comes with code of its own. Set model.trustRemoteCode: true if you trust it"
        )
    if not any(folder.glob("*.safetensors")):
        raise BadModel(
            f"model.from: {folder}: holds no *.safetensors. Other formats can run code when they are loaded: "
            "convert it, or take a revision with safetensors"
        )
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadModel(f"model.from: {folder}: cannot be loaded: {first_line(error)}") from None


def scratch_config(scratch: Scratch, words: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Returns the configuration of a new model for a tokenizer."""
    intermediate = scratch.intermediate_size or -(-scratch.hidden_size * 8 // 3 // 32) * 32
    specific: dict[str, Any] = {"mistral": {"sliding_window": None}}.get(scratch.architecture, {})
    return AutoConfig.for_model(
        scratch.architecture,
        vocab_size=rounded(len(words)),
        hidden_size=scratch.hidden_size,
        intermediate_size=intermediate,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.kv_heads or scratch.heads,
        max_position_embeddings=scratch.max_length,
        tie_word_embeddings=scratch.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": scratch.rope_theta},
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **specific,
    )


def rounded(vocabulary: int) -> int:
    return -(-vocabulary // VOCABULARY_STEP) * VOCABULARY_STEP


def check_length(config: PretrainedConfig, stage: Stage) -> None:
    """Raises BadConfig when the stage's rows are longer than what the model takes."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and stage.max_length > longest:
        raise BadConfig(
            f"stages[{stage.name}].maxLength: {stage.max_length} is above the {longest} positions of the model. "
            "Set maxLength to that or less, or make the model longer (model.scratch.maxLength)"
        )


def fit_vocabulary(model: PreTrainedModel, words: PreTrainedTokenizerBase) -> None:
    """Makes room for tokens that the run's tokenizer has and the model has not, such as those of a chat template.

    A new row is the mean of the old ones: every process and every attempt makes the same.
    """
    old = _weight(model.get_input_embeddings()).shape[0]
    if len(words) <= old:
        return
    layers: list[nn.Module] = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not layers[0].weight:
        layers.append(output)
    means = [_weight(layer).detach().float().mean(0) for layer in layers]
    model.resize_token_embeddings(rounded(len(words)), mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()][: len(layers)]
    with torch.no_grad():
        for layer, mean in zip(layers, means, strict=True):
            _weight(layer)[old:] = mean.to(_weight(layer).dtype)


def attention_for(config: PretrainedConfig, model_class: type, max_length: int, device: str, flash: bool) -> str:
    """Returns the attention that keeps packed documents apart at the least cost."""
    if device == "cuda":
        return "flash_attention_2" if flash and getattr(model_class, "_supports_flash_attn", False) else "sdpa"
    if document_attention.is_exact_for(model_class, config, max_length):
        return document_attention.NAME
    return "sdpa"


def set_attention(model: PreTrainedModel, max_length: int, device: torch.device) -> str:
    name = attention_for(model.config, type(model), max_length, device.type, _has_flash())
    document_attention.register()
    model.set_attn_implementation(name)
    return name


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Returns the linear layers but the output one, by their full name."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not output
    }


def resolve_targets(model: nn.Module, stage: Stage) -> list[str]:
    """Returns the last parts of the names of the modules that get an adapter, sorted.

    Raises BadConfig when a name that the stage gives matches nothing, and says which names there are.
    """
    layers = linear_layers(model)
    there = sorted({name.rsplit(".", 1)[-1] for name in layers})
    if stage.adapter is None:
        return []
    if stage.adapter.target_modules == "Auto":
        return there
    wanted = stage.adapter.target_modules.split(",")
    missing = [w for w in wanted if not any(name == w or name.endswith(f".{w}") for name in layers)]
    if missing:
        raise BadConfig(
            f"stages[{stage.name}].adapter.targetModules: nothing in the model is called {', '.join(missing)}. "
            f"Its linear layers are called {', '.join(there) or '(it has none)'}; Auto takes all of them"
        )
    return sorted(set(wanted))


def add_adapter(model: PreTrainedModel, adapter: Adapter, targets: list[str], *, seed: int) -> PeftModel:
    """Returns the model with a new LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024) adapter; the rest is frozen."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=adapter.method == "DoRA",
    )
    wrapped = get_peft_model(model, config)
    return wrapped  # type: ignore[return-value]


def _first(plan: Plan, ws: Workspace, *, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    if plan.model.scratch is not None:
        torch.manual_seed(seed)
        config = scratch_config(plan.model.scratch, tokenizer.load(ws))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        cast_weights(model, dtype)
        return model
    assert plan.model.from_ is not None
    folder = model_folder(plan.model.from_, fetched=ws.fetched_models)
    return load_folder(folder, dtype=dtype, trust_remote_code=plan.model.trust_remote_code)


def _read_done(path: Path, stage: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"stage {stage} has not ended: {path}: {error}. Start the run again to train it") from None


def _weight(layer: nn.Module) -> torch.Tensor:
    return layer.get_parameter("weight")


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return is_flash_attn_2_available()
