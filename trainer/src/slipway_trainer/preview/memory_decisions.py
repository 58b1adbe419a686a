"""What is chosen for models of usual sizes on usual devices: `python -m slipway_trainer.preview.memory_decisions`.

Told from shapes alone, by what a stage chooses with. It writes the tables of docs/memory.md; `--check` writes nothing
and exits 1 when they differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway_core.resources.data import StageData
from slipway_core.resources.model import Scratch, Tokenizer, TokenizerTraining
from slipway_core.resources.stage import Stage
from slipway_trainer.model import dense_shape
from slipway_trainer.preview import stage_sizes
from slipway_trainer.training import memory, memory_table
from slipway_trainer.training.memory import Machine
from slipway_trainer.training.memory_table import MemoryTable, Offload
from slipway_trainer.training.model_shape import ModelSize

PAGE = "docs/memory.md"
BEGIN, END = "<!-- decisions: written by make generate -->", "<!-- end of decisions -->"
DEVICES = (1, 2, 4, 8, 16, 64)
GIGABYTES = (24, 40, 80, 141)
ROWS = 4096
"""Packed rows of a step, so that the memory alone bounds those of a process."""
MAX_LENGTH = 2048
OFFLOADS: tuple[Offload, ...] = ("None", "Optimizer", "All")

# Layers, hidden, intermediate, heads, heads of keys, words, tied: GPT-2's sizes, Llama 3's and 2's, Qwen 2.5's.
_SHAPES = {
    "0.1B": (12, 768, 2048, 12, 12, 32_000, True),
    "0.35B": (24, 1024, 2816, 16, 16, 32_000, True),
    "1.2B": (16, 2048, 8192, 32, 8, 128_256, True),
    "3B": (28, 3072, 8192, 24, 8, 128_256, True),
    "8B": (32, 4096, 14_336, 32, 8, 128_256, False),
    "13B": (40, 5120, 13_824, 40, 40, 32_000, False),
    "32B": (64, 5120, 27_648, 40, 8, 152_064, False),
    "70B": (80, 8192, 28_672, 64, 8, 128_256, False),
}


@dataclass(frozen=True)
class Decision:
    zero_stage: int
    offload: Offload
    gradient_checkpointing: bool
    micro_batch: int
    table: MemoryTable

    @property
    def slowness(self) -> tuple[int, bool, int]:
        """Orders decisions, the fastest first."""
        return OFFLOADS.index(self.offload), self.gradient_checkpointing, self.zero_stage

    def __str__(self) -> str:
        twice = ", twice" if self.gradient_checkpointing else ""
        offload = f", {self.offload}" if self.offload != "None" else ""
        return f"{self.zero_stage}{twice}{offload} × {self.micro_batch}"


def sizes() -> dict[str, ModelSize]:
    """Returns the models by their names."""
    return {name: _size(*shape) for name, shape in _SHAPES.items()}


def _size(
    layers: int, hidden: int, intermediate: int, heads: int, groups: int, vocabulary: int, tied: bool
) -> ModelSize:
    scratch = Scratch(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        heads=heads,
        kv_heads=groups,
        tie_embeddings=tied,
        tokenizer=Tokenizer(train=TokenizerTraining()),
    )
    return stage_sizes.of_shape(dense_shape.of_scratch(scratch, vocabulary))


def decide(size: ModelSize, gigabytes: int, devices: int) -> Decision | None:
    """Returns what is chosen in BF16 with AdamW; None where nothing fits. Where nothing fits without an offload, the
    least of those that does is what a plan should ask for."""
    machine = Machine("cuda", gigabytes * 10**9, devices)
    stage = _stage()
    for offload in OFFLOADS:
        asked = stage.model_copy(update={"memory": stage.memory.model_copy(update={"offload": offload})})
        choice = memory.choose(size, asked, "BF16", machine, ROWS)
        table = memory_table.of_stage(size, asked, memory.setup_of(choice, asked, "BF16", machine))
        if table.device <= memory.USABLE * machine.free_bytes:
            return Decision(choice.zero_stage, offload, choice.gradient_checkpointing, choice.micro_batch, table)
    return None


def _stage() -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///data"}]}, by_alias=True, by_name=False)
    return Stage(name="stage", data=data, max_length=MAX_LENGTH)


def markdown() -> str:
    """Returns the tables, one a size of device."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for gigabytes in GIGABYTES:
        yield f"\n{gigabytes} GB:\n"
        yield f"| model | {' | '.join(map(str, DEVICES))} |"
        yield f"|---|{'---|' * len(DEVICES)}"
        for name, size in sizes().items():
            cells = [decide(size, gigabytes, devices) for devices in DEVICES]
            yield f"| {name} | {' | '.join('-' if cell is None else str(cell) for cell in cells)} |"
    yield ""


def written(page: str) -> str:
    """Returns the page with the tables of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    path = Path(PAGE)
    page = path.read_text(encoding="utf-8")
    made = written(page)
    if made == page:
        return 0
    if "--check" in arguments:
        print(f"{PAGE}: its decision tables are not those of now: run make generate", file=sys.stderr)
        return 1
    path.write_text(made, encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
