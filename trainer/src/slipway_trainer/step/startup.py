"""What a step does before it imports the model libraries, so that it starts fast and its log is the user's own."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# transformers imports them when they are there (assisted decoding, object detection), which costs seconds of every
# step, and nothing of a language model's training uses them.
_UNUSED = ("sklearn", "scipy")

_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DEEPSPEED_LOG_LEVEL": "error",
    "DS_LOG_LEVEL": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # A thread that waits sleeps instead of spinning. Where other processes want the cores too, spinning threads cost
    # the others their time: 1.7M weights trained 3,600 tokens/s with it and 1,600 without, beside one busy process.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Batches of all sizes share what a GPU has allocated, instead of leaving holes for each.
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # Warnings of libraries about themselves; a child process inherits it.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def prepare_process() -> None:
    """Makes the imports that follow lean and quiet. Call it first in a process of the trainer, never in a library."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in _UNUSED:
        if name not in sys.modules:
            # An entry of None makes `import` fail and `find_spec` find nothing, as if it were not installed.
            sys.modules[name] = None  # type: ignore[assignment]
    # peft imports bitsandbytes for any adapter, which then asks for a package by which it would fetch code of the hub.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|deepspeed|transformers|peft)\b.*")
