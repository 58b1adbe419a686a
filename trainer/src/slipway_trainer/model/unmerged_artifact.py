"""An artifact that is an adapter: as peft has it, with the digest of its base and where that lies.

```
artifact/adapter_config.json  adapter_model.safetensors    as peft reads them
        base.json                                          digest of the base, its URI and commit where that is of the
                                                           hub; or {folder: base}
        base/                                              a base that lies nowhere else: stages before made it, or
                                                           rows of new tokens are in it
        tokenizer.json ...  generation_config.json
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_trainer.model import (
    exported_model,
    four_bits,
    lineage,
    model_files,
    prompt_adapters,
    stage_model,
    token_rows,
)
from slipway_trainer.model.adapters import load_adapter
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.model.vocabulary import fit_vocabulary
from slipway_trainer.step.errors import BadArtifact, BadModel
from slipway_trainer.tokens import tokenizer

BASE_FILE = "base.json"
BASE = "base"


def is_one(folder: Path) -> bool:
    return (folder / BASE_FILE).is_file()


def write(
    plan: Plan, ws: Workspace, folder: Path, dtype: torch.dtype, require_space: Callable[[int], None]
) -> dict[str, Any]:
    """Writes the adapter of the last stage, and its base where that lies nowhere else. The folder must not exist.

    Args:
        dtype: of a base that is written.
        require_space: told the bytes of weights before any are written; raises where they have no room.

    Returns what base.json says.
    """
    last = plan.stages[-1]
    adapter, words = ws.stage(last.name).adapter, tokenizer.load(ws)
    before = plan.stage_before(last.name)
    held = four_bits.held_by(last)
    base = stage_model.load_composed(
        plan, ws, before.name if before else None, dtype=None if held else dtype, seed=last.seed
    )
    resized = fit_vocabulary(base, words) < base.get_input_embeddings().get_parameter("weight").shape[0]
    changed = resized or plan.model.add_tokens is not None or (adapter / token_rows.FILE).is_file()
    lies_elsewhere = plan.model.from_ is not None and before is None and not changed
    weights = 0 if lies_elsewhere else sum(weight.numel() * weight.itemsize for weight in base.parameters())
    require_space((adapter / "adapter_model.safetensors").stat().st_size + weights)
    model_files.write_words(base, words, folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, folder / name)
    if lies_elsewhere:
        where = lineage.base(plan, ws)
        if uris.parse(where["uri"]).scheme != "hf":
            # The digest of the artifact is the same on every machine, and the file may go to a public place: the
            # manifest says where the base lay.
            del where["uri"]
    else:
        token_rows.merge(base, adapter)
        model_files.write_model(base, words, folder / BASE)
        where = {"folder": BASE}
    if held:
        where["held"] = "NF4"
    (folder / BASE_FILE).write_text(json.dumps(where, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return where


def load(
    plan: Plan,
    folder: Path,
    fetched: Path,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str = "cpu",
) -> ExportedModel:
    """Loads a folder whose digest was verified, with its base. The model is in evaluation mode.

    Args:
        fetched: where prepare has put base models that lie elsewhere.
        dtype: that of the base's files when None.

    Raises BadArtifact when the base is not there, or not the one that the adapter was trained on.
    """
    where = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
    try:
        held = where.get("held") is not None
        place = _base_folder(plan, where, folder, fetched)
        trust = plan.model.trust_remote_code
        base: Any = stage_model.load_folder(place, dtype=None if held else dtype, trust_remote_code=trust)
        words = tokenizer.from_folder(folder, "artifact")
    except BadModel as error:
        raise BadArtifact(f"{folder}: its base cannot be loaded: {error}") from None
    if held:
        compute = dtype or base.dtype
        four_bits.quantize(base, plan.stages[-1], compute)
        cast_weights(base, compute)
    model: Any = load_adapter(base, folder)
    config = GenerationConfig.from_pretrained(str(folder))
    ends, penalty = exported_model.ends_and_penalty(config, words)
    base.generation_config = GenerationConfig()
    model.generation_config = base.generation_config
    virtual = prompt_adapters.virtual_tokens(model)
    return ExportedModel(model.to(device).eval(), words, ends, penalty, virtual)


def _base_folder(plan: Plan, where: dict[str, Any], folder: Path, fetched: Path) -> Path:
    """Raises BadArtifact when another model lies where the base was."""
    if "folder" in where:
        return folder / where["folder"]
    assert plan.model.from_ is not None
    place = model_folder(plan.model.from_, fetched=fetched)
    if (found := lineage.digest_of_model(place)) != where["digest"]:
        raise BadArtifact(
            f"{plan.model.from_}: is not the base that the adapter was trained on: it has the digest {found}, and that "
            f"had {where['digest']}. Put it back, or train the adapter again"
        )
    return place
