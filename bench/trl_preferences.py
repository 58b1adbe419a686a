"""Whether the losses of preferences are those of TRL on the same batch.

    .venv/bin/python -m bench.trl_preferences

Both compute loss and gradient of eight pairs of answers with the same small Llama in float32 and the same reference:
Slipway packed in rows, TRL padded, in an environment of its own. DPO and IPO are asked of TRL's DPOTrainer, SimPO of
its CPOTrainer. TRL divides IPO's log-probabilities by the tokens of the answer, Slipway goes by the formula of the
paper: for answers of n tokens TRL's loss is Slipway's of beta / n, divided by n², which is what is compared.

Ends with 1 where a loss is off by more than 1e-5 of it, or a gradient by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

WORDS = 320
PAIRS = 8
ANSWER = 11
"""Tokens of an answer of IPO's pairs; those of the others differ."""
BETA = {"DPO": 0.3, "IPO": 0.2, "SimPO": 2.5}
GAMMA = 0.7
LOSSES = tuple(BETA)
Pair = dict[str, list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT " + json.dumps({loss: trl(options.child, loss) for loss in LOSSES}), flush=True)
        return
    sys.exit(0 if compare() else 1)


def compare() -> bool:
    """Prints what both found, and returns whether it is the same."""
    from bench import peer_environments

    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        write(folder)
        command = [
            peer_environments.python(peer_environments.TRL),
            str(Path(__file__).resolve()),
            "--child",
            str(folder),
        ]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"TRL failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        theirs = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
        ours = {loss: slipway(folder, loss) for loss in LOSSES}
    same = True
    print("\n| loss | Slipway | TRL 1.16 | off by | gradient off by |\n|---|---|---|---|---|")
    for loss in LOSSES:
        own, other = ours[loss], theirs[loss]
        off = abs(own["loss"] / other["loss"] - 1)
        gradient, its = torch.tensor(own["gradient"]), torch.tensor(other["gradient"])
        turned = float((gradient - its).norm() / its.norm())
        same = same and off < 1e-5 and turned < 1e-4
        print(f"| {loss} | {own['loss']:.6f} | {other['loss']:.6f} | {off:.1e} | {turned:.1e} |")
    return same


def write(folder: Path) -> None:
    """Writes model, reference and pairs."""
    for seed, name in enumerate(("model", "reference")):
        torch.manual_seed(seed)
        _llama().save_pretrained(str(folder / name))
    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(3, WORDS) for _ in range(count)]

    def pair(chosen: int, rejected: int) -> Pair:
        prompt = tokens(draw.randint(2, 9))
        return {"prompt_ids": prompt, "chosen_ids": tokens(chosen), "rejected_ids": tokens(rejected)}

    lengths = [(draw.randint(2, 20), draw.randint(2, 20)) for _ in range(PAIRS)]
    equal = [(ANSWER, ANSWER)] * PAIRS
    for loss in LOSSES:
        pairs = [pair(*both) for both in (equal if loss == "IPO" else lengths)]
        (folder / f"{loss}.json").write_text(json.dumps(pairs))


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    # Weights ten times larger than usual, so that log-probabilities differ.
    return LlamaForCausalLM(LlamaConfig(**size, vocab_size=WORDS, initializer_range=0.2, tie_word_embeddings=True))


def _loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)


def slipway(folder: Path, loss: str) -> dict[str, Any]:
    """Returns the mean loss of the pairs and the gradient of the embedding."""
    import numpy as np

    from slipway_core.resources.preference import Preference
    from slipway_trainer.batches import collate, packing
    from slipway_trainer.model.attention import set_attention
    from slipway_trainer.model.preference_loss import PreferenceLoss

    pairs = json.loads((folder / f"{loss}.json").read_text())
    shards = _Pairs(pairs)
    tau = BETA[loss] / ANSWER if loss == "IPO" else BETA[loss]
    settings = Preference(loss=loss, beta=tau, gamma=GAMMA if loss == "SimPO" else None)  # type: ignore[arg-type]
    bins = packing.pack(shards.lengths, 64)

    def module(name: str) -> PreferenceLoss:
        model = _loaded(folder / name)
        set_attention(model, 64, torch.device("cpu"))
        return PreferenceLoss(model, settings, attention=model.config._attn_implementation)

    def batch(reference: np.ndarray | None) -> Any:
        rows = range(len(bins))
        return collate.batch(shards, bins, rows, max_length=64, pad_id=0, reference=reference)  # type: ignore[arg-type]

    reference = None
    if loss != "SimPO":
        with torch.no_grad():
            said = module("reference")(batch(None)).view(-1, 2).numpy()
        # A batch has its pairs in the order of its rows, a reference has them in that of the data.
        reference = np.empty_like(said)
        reference[bins.documents] = said
    ours = module("model")
    summed = ours(batch(reference))[0]
    scale = 1 / ANSWER**2 if loss == "IPO" else 1.0
    mean = summed * scale / PAIRS
    mean.backward()
    return _found(mean, ours.model)


class _Pairs:
    """What the collator reads of shards."""

    def __init__(self, pairs: list[Pair]) -> None:
        import numpy as np

        self._pairs = pairs
        self.chosen = np.array([len(pair["prompt_ids"]) + len(pair["chosen_ids"]) for pair in pairs])
        rejected = [len(pair["prompt_ids"]) + len(pair["rejected_ids"]) for pair in pairs]
        self.lengths = self.chosen + np.array(rejected)

    def texts(self, index: int) -> list[tuple[Any, Any]]:
        import numpy as np

        pair = self._pairs[index]
        prompt = pair["prompt_ids"]
        both = [np.array(prompt + pair[name]) for name in ("chosen_ids", "rejected_ids")]
        return [(tokens, np.arange(len(tokens)) >= len(prompt)) for tokens in both]


def trl(folder: Path, loss: str) -> dict[str, Any]:
    """The same by TRL, in its own environment."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    pairs = json.loads((folder / f"{loss}.json").read_text())
    batch = DataCollatorForPreference(pad_token_id=0)(pairs)
    model = _loaded(folder / "model")
    mean = _trl_simpo(model, batch) if loss == "SimPO" else _trl_dpo(model, batch, folder, loss)
    mean.backward()
    return _found(mean, model)


def _trl_dpo(model: Any, batch: dict[str, torch.Tensor], folder: Path, loss: str) -> torch.Tensor:
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    # It asks for data when it is made; what is computed is the batch.
    rows = Dataset.from_list([{"prompt": "w3 w4", "chosen": " w5", "rejected": " w6"}])
    arguments = DPOConfig(
        str(folder / "trl"),
        beta=BETA[loss],
        loss_type=["ipo" if loss == "IPO" else "sigmoid"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
    )
    trainer = DPOTrainer(
        model,
        _loaded(folder / "reference"),
        args=arguments,
        train_dataset=rows,
        processing_class=PreTrainedTokenizerFast(tokenizer_object=made, **names),
    )
    return trainer.compute_loss(trainer.model, batch)  # type: ignore[arg-type]


def _trl_simpo(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    from trl.experimental.cpo import CPOTrainer

    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    chosen, rejected = CPOTrainer.get_batch_logps(logits, labels, average_log_prob=True).chunk(2)
    settings = SimpleNamespace(
        alpha=0.0,
        beta=BETA["SimPO"],
        simpo_gamma=GAMMA,
        label_smoothing=0.0,
        loss_type="simpo",
        accelerator=SimpleNamespace(device=torch.device("cpu")),
    )
    return CPOTrainer.cpo_loss(settings, chosen, rejected)[0].mean()  # type: ignore[arg-type]


def _found(mean: torch.Tensor, model: Any) -> dict[str, Any]:
    return {"loss": float(mean.detach()), "gradient": model.get_input_embeddings().weight.grad.flatten().tolist()}


if __name__ == "__main__":
    main()
