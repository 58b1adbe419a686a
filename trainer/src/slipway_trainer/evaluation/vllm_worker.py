"""The process in which vLLM judges: the one module of judging that imports it.

It is told what to load when it starts, and answers one question after the other over a pipe, until that is closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Any

from slipway_core.protocol.last_words import reasons
from slipway_host import libnuma
from slipway_host.parent import end_with


@dataclass(frozen=True)
class Settings:
    arguments: dict[str, Any]
    """Of vLLM's `LLM`."""
    on_cpu: bool


def run(connection: Any, settings: Settings, parent: int) -> None:
    """Loads, tells `{version, longest, dtype}` or `{failed}`, and then answers each of

    - `{score: [(tokens, targets)]}`: log-probabilities of the last `targets` tokens of each row; with `greedy` each
      with whether it was the most likely token,
    - `{answer: [(tokens, room)], ends, repetition_penalty}`: the new tokens of each row, greedily,

    by `{found}`, or by `{refused}` with a reason.

    Args:
        connection: of `multiprocessing.Pipe`.
        parent: its pid, with which this process ends.
    """
    if not end_with(parent, signal.SIGKILL):
        return
    # Who started it decides when it ends: a signal to the group is not its business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.update(_environment(settings.on_cpu))
    if settings.on_cpu and not libnuma.load():
        connection.send({"failed": "libnuma.so.1 is missing (on Debian: apt-get install libnuma1)"})
        return
    try:
        import vllm

        engine: Any = vllm.LLM(**settings.arguments)
        model = engine.llm_engine.model_config
        told = {
            "version": vllm.__version__,
            "longest": model.max_model_len,
            "dtype": str(model.dtype).removeprefix("torch."),
        }
    except Exception as error:
        connection.send({"failed": _reason(error)})
        return
    connection.send(told)
    with contextlib.suppress(EOFError):
        while True:
            asked = connection.recv()
            try:
                connection.send({"found": _score(engine, asked) if "score" in asked else _answer(engine, asked)})
            except ValueError as error:
                connection.send({"refused": _reason(error)})


def _score(engine: Any, asked: dict[str, Any]) -> list[list[Any]]:
    from vllm import SamplingParams

    only = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    rows = asked["score"]
    made = engine.generate([{"prompt_token_ids": tokens} for tokens, _ in rows], only, use_tqdm=False)
    greedy = asked.get("greedy", False)

    def told(one: Any) -> Any:
        return (float(one.logprob), one.rank == 1) if greedy else float(one.logprob)

    return [
        [told(said[token]) for said, token in list(zip(one.prompt_logprobs, tokens, strict=True))[-targets:]]
        for one, (tokens, targets) in zip(made, rows, strict=True)
    ]


def _answer(engine: Any, asked: dict[str, Any]) -> list[list[int]]:
    from vllm import SamplingParams

    rows = asked["answer"]
    greedy = [
        SamplingParams(
            temperature=0,
            max_tokens=room,
            stop_token_ids=asked["ends"],
            repetition_penalty=asked["repetition_penalty"],
            detokenize=False,
        )
        for _, room in rows
    ]
    made = engine.generate([{"prompt_token_ids": tokens} for tokens, _ in rows], greedy, use_tqdm=False)
    return [list(one.outputs[0].token_ids) for one in made]


def _environment(on_cpu: bool) -> dict[str, str]:
    """Returns what the server sets too, but for what is about requests."""
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_PLUGINS": "",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
    }
    if on_cpu:
        wanted |= {
            # Its sampler is compiled even where nothing else is, and that needs a C++ compiler.
            "TORCHDYNAMO_DISABLE": "1",
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return wanted


def _reason(error: Exception) -> str:
    return (" ".join(reasons(str(error))) or type(error).__name__)[:500]
