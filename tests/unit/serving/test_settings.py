from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from typer.testing import CliRunner

from slipway_serving import main
from slipway_serving.engine import configuration
from slipway_serving.settings import EngineOptions, Limits, Settings, SettingsError, check, is_loopback


def settings(model: Path = Path("/m"), **fields: Any) -> Settings:
    return Settings(model=model, served_name="tiny", **fields)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "api.localhost", "localhost."])
def test_names_and_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)
    check(settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_a_server_for_strangers_needs_keys_or_says_so(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="--api-keys-file"):
        check(settings(host=host))
    check(settings(host=host, allow_anonymous=True))
    check(settings(host=host, api_keys_file=Path("keys")))


def test_keys_and_anonymous_access_contradict_each_other() -> None:
    with pytest.raises(SettingsError, match="contradict"):
        check(settings(allow_anonymous=True, api_keys_file=Path("keys")))


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float32"}), encoding="utf-8")
    return tmp_path


def test_on_a_cpu_nothing_is_compiled_and_the_cache_is_small(model: Path) -> None:
    arguments = configuration.arguments(settings(model), on_cpu=True)
    assert {"--enforce-eager", "-O0"} <= set(arguments)
    assert option(arguments, "--kv-cache-memory-bytes") == str(2**30)
    assert option(arguments, "--dtype") == "float32"
    environment = configuration.environment(settings(model), True, {})
    assert environment["TORCHDYNAMO_DISABLE"] == environment["TORCH_COMPILE_DISABLE"] == "1"


def test_on_a_gpu_the_engine_keeps_its_own_ways(model: Path) -> None:
    arguments = configuration.arguments(settings(model), on_cpu=False)
    assert not {"--enforce-eager", "-O0", "--kv-cache-memory-bytes", "--distributed-executor-backend"} & set(arguments)
    assert option(arguments, "--dtype") == "auto"
    assert "TORCHDYNAMO_DISABLE" not in configuration.environment(settings(model), False, {})


def test_how_many_answers_at_a_time_follows_the_device_and_the_queue_follows_that(model: Path) -> None:
    assert option(configuration.arguments(settings(model), on_cpu=True), "--max-num-seqs") == "8"
    assert "--max-num-seqs" not in configuration.arguments(settings(model), on_cpu=False), "vLLM looks at the GPU"
    chosen = settings(model, limits=Limits(max_concurrent=64))
    assert option(configuration.arguments(chosen, on_cpu=False), "--max-num-seqs") == "64"
    assert [configuration.queue(Limits(), places) for places in (8, 1024)] == [32, 4096]
    assert configuration.queue(Limits(max_queue=0), 1024) == 0


@pytest.mark.parametrize("on_cpu", [True, False])
def test_what_constrains_an_answer_is_never_compiled_ahead(model: Path, on_cpu: bool) -> None:
    arguments = configuration.arguments(settings(model), on_cpu)
    assert json.loads(option(arguments, "--structured-outputs-config")) == {"backend": "guidance"}


def test_options_reach_the_engine(model: Path) -> None:
    options = EngineOptions(
        max_model_length=256, dtype="bfloat16", tensor_parallel=2, gpu_memory_utilization=0.5, kv_cache_gib=0.25
    )
    chosen = settings(
        model, engine=options, limits=Limits(max_concurrent=3, max_new_tokens=7), drain_seconds=12, linger_seconds=5
    )
    arguments = configuration.arguments(chosen, on_cpu=True)
    assert option(arguments, "--max-model-len") == "256"
    assert option(arguments, "--dtype") == "bfloat16"
    assert option(arguments, "--tensor-parallel-size") == "2"
    assert option(arguments, "--gpu-memory-utilization") == "0.5"
    assert option(arguments, "--kv-cache-memory-bytes") == str(2**28)
    assert option(arguments, "--max-num-seqs") == "3"
    assert json.loads(option(arguments, "--override-generation-config")) == {"max_new_tokens": 7}
    assert option(arguments, "--shutdown-timeout") == "17"
    assert option(arguments, "--load-format") == "safetensors"


def test_an_inherited_environment_cannot_open_the_server(model: Path) -> None:
    inherited = {
        "VLLM_API_KEY": "k",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "1",
        "VLLM_PLUGINS": "other",
        "HF_HUB_OFFLINE": "0",
        "HOME": "/h",
    }
    environment = configuration.environment(settings(model), True, inherited)
    assert not {"VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_DEBUG_LOG_API_SERVER_RESPONSE"} & environment.keys()
    assert (environment["VLLM_PLUGINS"], environment["HF_HUB_OFFLINE"], environment["HOME"]) == ("slipway", "1", "/h")


def test_threads_are_those_asked_for_else_no_more_than_the_cores() -> None:
    assert configuration.cpu_threads({"OMP_NUM_THREADS": "3"}) == 3
    assert 1 <= configuration.cpu_threads({"OMP_NUM_THREADS": "many"}) <= len(__import__("os").sched_getaffinity(0))


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main.app, ["--served-name", "tiny", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1, "one clear line"
    return result.stderr


def test_the_command_refuses_what_it_cannot_serve_with_code_2(tmp_path: Path) -> None:
    free = free_port()
    assert "manifest.json" in refused("--model", str(tmp_path), "--port", str(free))
    assert "--host 0.0.0.0" in refused("--model", str(tmp_path), "--host", "0.0.0.0")
    missing = str(tmp_path / "keys")
    assert missing in refused("--model", str(tmp_path), "--api-keys-file", missing, "--port", str(free))


def test_a_port_in_use_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port}" in refused("--model", str(tmp_path), "--port", port)
