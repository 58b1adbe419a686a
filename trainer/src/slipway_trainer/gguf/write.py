"""The folder `gguf/` of a run: complete or absent, and of the artifact beside it.

```
gguf/model.gguf  Modelfile
     gguf.json                  the digest of the artifact, the format, and size and SHA-256 of both files
```
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.workspace import Workspace
from slipway_host.files import replace_folder, sync_tree, write_atomically
from slipway_trainer.gguf import modelfile, tensors
from slipway_trainer.gguf.tensors import Format, Tensor
from slipway_trainer.model import config_file, gguf_shape
from slipway_trainer.model.gguf_shape import Shape
from slipway_trainer.step import disk_space
from slipway_trainer.step.errors import BadExport
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Say
from slipway_trainer.tokens import gguf_vocabulary, tokenizer
from slipway_trainer.tokens.gguf_vocabulary import Vocabulary

RECORD = "gguf.json"
_FILE_TYPES = {"F16": LlamaFileType.MOSTLY_F16, "Q8_0": LlamaFileType.MOSTLY_Q8_0}
_SPARE_BYTES = 64 << 20
_DIVISORS = "rope_freqs.weight"
"""What llama.cpp divides the frequencies of rotary positions by where a file has it, in all layers alike."""


def write(workspace: Workspace, manifest: Manifest, wanted: Format, fence: Fence, say: Say) -> Path:
    """Writes the artifact of a run as GGUF; what an earlier attempt has written of it stays. Returns the folder.

    Raises BadConfig and BadExport for a model that cannot be one, NoSpace before anything is written.
    """
    for left in workspace.root.glob(f"{workspace.gguf.name}.tmp-*"):
        shutil.rmtree(left)
    if _finished(workspace.gguf, manifest, wanted):
        return workspace.gguf
    found = tensors.of_folder(workspace.artifact, wanted)
    _require_space(workspace.root, found)
    say(f"writing {wanted} for llama.cpp and Ollama")
    folder = workspace.root / f"{workspace.gguf.name}.tmp-{fence.attempt}"
    folder.mkdir()
    _write_files(workspace.artifact, folder, found, manifest, wanted)
    record = {"version": 1, "artifact": manifest.digest, "format": wanted, "files": _entries(folder)}
    write_atomically(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")
    sync_tree(folder)
    fence.check()
    replace_folder(folder, workspace.gguf)
    return workspace.gguf


def _write_files(source: Path, folder: Path, found: list[Tensor], manifest: Manifest, wanted: Format) -> None:
    shape = gguf_shape.of_config(config_file.read(source))
    words = tokenizer.from_folder(source, "artifact")
    ends = tokenizer.end_ids(words)
    vocabulary = gguf_vocabulary.of_tokenizer(words, _rows(found), ends[0] if ends else None)
    writer = GGUFWriter(folder / modelfile.MODEL, shape.architecture)
    try:
        _describe(writer, manifest.run, shape, wanted)
        _add_vocabulary(writer, vocabulary)
        for tensor in found:
            writer.add_tensor_info(tensor.name, tensor.byte_shape, tensor.dtype, tensor.bytes, tensor.type)
        divisors = np.array(shape.rope_divisors or (), np.float32)
        if divisors.size:
            writer.add_tensor_info(_DIVISORS, divisors.shape, divisors.dtype, divisors.nbytes, GGMLQuantizationType.F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in found:  # One in memory at a time.
            writer.write_tensor_data(tensors.read(tensor, shape))
        if divisors.size:
            writer.write_tensor_data(divisors)
    finally:
        writer.close()
    config: dict[str, Any] = json.loads((source / "generation_config.json").read_text(encoding="utf-8"))
    stops = list(dict.fromkeys(str(words.convert_ids_to_tokens(end)) for end in _listed(config, ends)))
    text = modelfile.make(words.chat_template, stops, config, shape.context)  # type: ignore[arg-type]
    write_atomically(folder / "Modelfile", text)


def _describe(writer: GGUFWriter, name: str, shape: Shape, wanted: Format) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[wanted])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([int(kind) for kind in vocabulary.types])
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "pad": writer.add_pad_token_id,
        "unk": writer.add_unk_token_id,
    }
    for name, id_ in vocabulary.ids.items():
        add[name](id_)
    if vocabulary.template is not None:
        writer.add_chat_template(vocabulary.template)


def _rows(found: list[Tensor]) -> int:
    for tensor in found:
        if tensor.name == "token_embd.weight":
            return tensor.shape[0]
    raise BadExport("export.gguf: the model has no embedding. Leave export.gguf out")


def _listed(config: dict[str, Any], ends: list[int]) -> list[int]:
    said = config.get("eos_token_id")
    return [end for end in [*ends, *(said if isinstance(said, list) else [said])] if isinstance(end, int)]


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: entry.model_dump() for name, entry in artifact.hash_folder(folder).items() if name != RECORD}


def _finished(folder: Path, manifest: Manifest, wanted: Format) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = (record["artifact"], record["format"]) == (manifest.digest, wanted)
        return same and record["files"] == _entries(folder)
    except (OSError, ValueError, KeyError, TypeError, ArtifactError):
        return False


def _require_space(folder: Path, found: list[Tensor]) -> None:
    needed = sum(tensor.bytes for tensor in found) + _SPARE_BYTES
    disk_space.require(
        folder,
        needed,
        lambda free: (
            f"export.gguf: the file takes {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free. Free space "
            "there and start again, or leave export.gguf out"
        ),
    )
