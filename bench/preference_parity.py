"""The loss of preferences beside TRL's, on the same batch of the same model.

    python bench/preference_parity.py

TRL is put into a folder of its own, without what it depends on, which is here. It makes its batch of texts of its own
trainer; the same tokens, as pairs of documents that share rows, go through Slipway's loss. Both have another model as
their reference, whose log-probabilities each computes itself.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TRL = "trl==1.16.0"
BETA = 0.3
TOLERANCE = 1e-5


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        uv = str(Path(sys.executable).with_name("uv"))
        target = os.environ.get("TRL_FOLDER") or f"{name}/trl"
        if not Path(target).is_dir():
            into = ["--python", sys.executable, "--target", target]
            subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", *into, TRL], check=True)
        sys.path.append(target)
        compare(Path(name))


def compare(folder: Path) -> None:
    import torch

    model = _model(0)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    batch, theirs = _by_trl(model, reference, folder)
    ours = _by_slipway(model, reference, batch)
    difference = abs(ours - theirs) / abs(theirs)
    pairs = len(batch["input_ids"]) // 2
    print(f"DPO at beta {BETA}, {pairs} pairs: TRL {theirs:.7f}, Slipway {ours:.7f}, apart by {difference:.1e}")
    if not difference < TOLERANCE:
        raise SystemExit(f"they differ by more than {TOLERANCE:g}")


def _words() -> Any:
    from slipway_trainer.tokens import tokenizer

    texts = ["the quick brown fox jumps over the lazy dog", "a small old river under rain and snow sings"] * 4
    made = tokenizer.train(texts, vocabulary=320, max_length=128)
    tokenizer.give_template(made, "ChatML")
    return made


def _model(seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _by_trl(model: Any, reference: Any, folder: Path) -> tuple[dict[str, Any], float]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    words = ["the", "small", "old", "river", "sings", "under", "rain", "and", "snow", "a", "lazy", "dog", "jumps"]
    rows = [
        {
            "prompt": f"say {words[n]} {words[(3 * n + 1) % len(words)]}",
            "chosen": " " + " ".join(words[: 2 + n % 5]),
            "rejected": " " + " ".join(words[n % 7 : n % 7 + 3 + n % 4]),
        }
        for n in range(8)
    ]
    settings = DPOConfig(
        str(folder / "out"), beta=BETA, per_device_train_batch_size=len(rows), use_cpu=True, report_to=[], bf16=False
    )
    # Copies: it changes how they are called.
    trainer = DPOTrainer(
        model=copy.deepcopy(model),
        ref_model=copy.deepcopy(reference),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=_words(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    return batch, float(trainer.compute_loss(trainer.model, batch).detach())


class _Pairs:
    """The rows of TRL's batch as shards of pairs: chosen ones stand before rejected ones there."""

    def __init__(self, batch: dict[str, Any]) -> None:
        lengths = batch["attention_mask"].sum(1).tolist()
        rows = zip(batch["input_ids"], batch["completion_mask"], lengths, strict=True)
        self._texts = [(ids[:size].numpy(), mask[:size].bool().numpy()) for ids, mask, size in rows]
        self._half = len(self._texts) // 2
        import numpy as np

        self.chosen = np.array(lengths[: self._half])
        self.lengths = self.chosen + np.array(lengths[self._half :])

    def texts(self, index: int) -> list[Any]:
        return [self._texts[index], self._texts[self._half + index]]


def _by_slipway(model: Any, reference: Any, batch: dict[str, Any]) -> float:
    import numpy as np
    import torch

    from slipway_core.resources.preference import Preference
    from slipway_trainer.batches import collate, packing
    from slipway_trainer.model import document_attention
    from slipway_trainer.model.preference_loss import PreferenceLoss

    pairs: Any = _Pairs(batch)
    longest = int(pairs.lengths.max())
    bins = packing.pack(pairs.lengths, longest)
    document_attention.register()

    def figures(of: Any, known: np.ndarray | None) -> torch.Tensor:
        of.set_attn_implementation(document_attention.CALLS)
        loss = PreferenceLoss(of, Preference(loss="DPO", beta=BETA), attention=document_attention.CALLS).eval()
        rows = collate.batch(pairs, bins, range(len(bins)), max_length=longest, pad_id=0, reference=known)
        with torch.no_grad():
            return loss(rows)

    known = np.zeros((len(pairs.lengths), 2), np.float32)
    known[bins.documents] = figures(copy.deepcopy(reference), None).view(-1, 2).numpy()
    loss = figures(copy.deepcopy(model), known)
    return float(loss[0]) / len(pairs.lengths)


if __name__ == "__main__":
    main()
