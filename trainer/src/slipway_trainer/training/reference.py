"""What the reference of a preference stage says of its pairs: the log-probabilities by the model as the stage finds it.

They are computed once, before the first step, and kept in the stage's folder, so that no second model is in memory and
no step computes a second pass. With an adapter the start is the model with the adapter switched off (a fresh one adds
nothing), and the same file serves. It belongs to weights, data and precision, and another start is computed anew.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slipway_host.files import write_atomically
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model.pieces import gathered
from slipway_trainer.training import process_group
from slipway_trainer.training.micro_batches import MicroBatches
from slipway_trainer.training.precision import Precision
from slipway_trainer.training.stage_attempt import StageAttempt

Reference = dict[str, np.ndarray]
"""float32 [pairs, 2] of each split: the chosen and the rejected answer of each pair, in nats."""


def weights_digest(model: nn.Module) -> str:
    """Returns a digest of all weights and buffers of a model, by their names. Collective where it is in pieces."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if isinstance(tensor, torch.Tensor):
            with gathered([tensor]):  # pyright: ignore[reportArgumentType]
                digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return "sha256:" + digest.hexdigest()


def of_stage(
    attempt: StageAttempt, engine: Any, splits: dict[str, MicroBatches], *, weights: str, precision: Precision
) -> Reference:
    """Returns the reference of every split; the same on all ranks. Written once, complete or absent.

    Args:
        engine: with the weights that the stage begins with.
        weights: digest of them.

    Raises Superseded when a newer attempt has the stage, OSError when the disk is full.
    """
    path, ranks = attempt.folder.reference, attempt.ranks
    data = ",".join(f"{name}={micro.shards.digest}" for name, micro in splits.items())
    key = f"weights={weights},{data},precision={precision},maxLength={attempt.stage.max_length}"
    found = process_group.of_first(_read(path, key) if ranks.first else None, ranks)
    if found is not None:
        return found
    attempt.say("computing what the reference says of the pairs")
    made = {name: _of_split(attempt, engine, name, micro) for name, micro in splits.items()}
    if ranks.first:
        attempt.fence.check()
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), **made)  # pyright: ignore[reportArgumentType]
        write_atomically(path, buffer.getvalue())
        attempt.log(f"the reference is known of {sum(map(len, made.values())):,} pairs ({path.name})")
    return made


def _read(path: Path, key: str) -> Reference | None:
    """Returns what a file holds; None where there is none for this key, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            return {name: file[name] for name in file.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _of_split(attempt: StageAttempt, engine: Any, name: str, micro: MicroBatches) -> np.ndarray:
    """Returns float32 [pairs, 2]; every rank computes its share."""
    ranks = micro.ranks
    pairs, said = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.float32)]
    engine.eval()
    with torch.no_grad():
        parts = micro.of_all()
        for number, part in enumerate(parts, 1):
            found = engine(_unknown(micro.batch(part)).to(ranks.device))
            pairs.append(part.documents)
            said.append(found.float().cpu().numpy().reshape(-1, 2))
            attempt.show(f"the reference has seen {number:,} of {len(parts):,} batches of {name}")
    engine.train()
    whole = np.zeros((micro.shards.n_documents, 2), np.float32)
    for own_pairs, own in process_group.of_all((np.concatenate(pairs), np.concatenate(said)), ranks):
        whole[own_pairs] = own
    return whole


def _unknown(batch: Batch) -> Batch:
    """Returns a batch that asks for log-probabilities: an empty one is told as if it knew its reference."""
    assert batch.pairs is not None
    return replace(batch, pairs=replace(batch.pairs, reference=None))
