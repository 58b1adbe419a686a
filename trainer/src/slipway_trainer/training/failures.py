"""What goes wrong in the libraries while a stage trains, in words that say what to do about it."""

from __future__ import annotations

from pathlib import Path

import torch

from slipway_trainer.model import compiled_blocks
from slipway_trainer.step.errors import Diverged, LostPeers, NoSpace, OutOfMemory, StepFailure, first_line
from slipway_trainer.training.process_group import Ranks


def in_our_words(error: Exception, folder: Path, ranks: Ranks) -> StepFailure | None:
    """Returns what an error means for the stage whose folder this is; None when it is none that is known."""
    if is_out_of_memory(error):
        return OutOfMemory(next(iter(str(error).splitlines()), "out of memory"))
    said = first_line(error)
    if "No space left on device" in said and not isinstance(error, OSError):
        # safetensors wraps what the system said.
        return NoSpace(f"{folder}: {said}. Free space there and start again")
    if "loss scale already at minimum" in said:
        return Diverged(
            "fp16 gradients overflow at the smallest loss scale. Lower optimizer.learningRate, or use precision: BF16"
        )
    if found := compiled_blocks.failure(error):
        return found
    if ranks.world > 1 and is_lost_peer(error):
        return LostPeers(f"rank {ranks.rank} lost the others: {said}")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the machine or of the accelerator ran out; torch says it in several ways."""
    text = str(error)
    return (
        isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in text
        or "CUDA out of memory" in text
    )


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of a collective says that another rank is gone, so that this rank is not the cause."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    text = str(error)
    signs = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "gloo/transport",
        "NCCL communicator was aborted",
        "remote process exited",
    )
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)
