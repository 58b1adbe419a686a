"""Names of the layers that an adapter may go on, told from the plan and the files alone: before any stage trains, and
without a deep-learning library.
"""

from __future__ import annotations

import json
from pathlib import Path

from slipway_core.resources.stage import Stage
from slipway_trainer.step.errors import BadConfig

# The three architectures of new models call their linear layers alike.
NEW_MODEL = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_HEADER_LIMIT = 100 << 20


def of_folder(folder: Path) -> list[str]:
    """Returns the full names of the matrices in a folder's safetensors files, as the headers have them: the linear
    layers, and embeddings too. Empty when a header cannot be read, which loading the model will then say."""
    names: list[str] = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(size, _HEADER_LIMIT)))
            names += [
                name.removesuffix(".weight")
                for name, tensor in header.items()
                if name.endswith(".weight") and len(tensor.get("shape", ())) == 2
            ]
        except (OSError, ValueError, AttributeError):
            return []
    return names


def check(stage: Stage, names: list[str]) -> None:
    """Raises BadConfig when a target module that the stage names is none of the model's."""
    if stage.adapter is None or stage.adapter.target_modules == "Auto" or not names:
        return
    wanted = stage.adapter.target_modules.split(",")
    if missing := [w for w in wanted if not any(name == w or name.endswith(f".{w}") for name in names)]:
        there = sorted({name.rsplit(".", 1)[-1] for name in names if "embed" not in name and "lm_head" not in name})
        raise BadConfig(
            f"stages[{stage.name}].adapter.targetModules: nothing in the model is called {', '.join(missing)}. "
            f"Its layers are called {', '.join(there)}; Auto takes all linear ones"
        )
