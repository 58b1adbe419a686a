"""Start vLLM's engine, put its application and ours behind one HTTP server, and end it without cutting a stream.

vLLM's own `run_server` would do, but for three things: on a CPU it starts processes by spawn, which doubles the time
to ready (see `engine.configuration.in_one_process`); at SIGTERM it stops the engine while its port still takes
requests; and it exits 0 when the engine died.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.control_tokens import ControlTokens
from slipway_host import imports, libnuma, processor
from slipway_host.parent import end_with
from slipway_serving import __version__
from slipway_serving.engine import configuration, parity_check
from slipway_serving.engine.request_models import RequestModels, request_models
from slipway_serving.http import http_server
from slipway_serving.http.admission import Admission
from slipway_serving.http.api_keys import ApiKeys
from slipway_serving.http.connections import Connections, most_connections
from slipway_serving.http.http_server import HttpServer
from slipway_serving.http.linger import Linger
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.http.server_parts import Server
from slipway_serving.settings import Settings, SettingsError

logger = logging.getLogger(__name__)


def serve(settings: Settings, manifest: Manifest, keys: ApiKeys | None, sock: socket.socket) -> int:
    """Loads the model and serves it on a bound socket until SIGTERM. Returns the exit code.

    0 after a drain, 1 when the engine died. Raises SettingsError when this machine cannot load vLLM, when vLLM does
    not take the settings, or when what it serves is not the model that was judged.
    """
    on_cpu = configuration.runs_on_cpu()
    if on_cpu:
        configuration.require_kernels(settings.model, processor.flags())
    inherited = dict(os.environ)
    wanted = configuration.environment(settings, on_cpu, inherited)
    os.environ.clear()
    os.environ.update(wanted)
    if on_cpu and not libnuma.load():
        raise SettingsError(
            "libnuma.so.1 is missing, and vLLM's CPU kernels need it. On Debian: apt-get install libnuma1"
        )
    with _engine(settings, on_cpu, configuration.cpu_threads(inherited), sock) as (client, args, metrics):
        places = client.vllm_config.scheduler_config.max_num_seqs
        admission = Admission(places, configuration.queue(settings.limits, places))
        logger.info("At most %d answers are made at a time, and %d requests wait.", places, admission.max_queue)
        metrics.watch(admission)
        metrics.set_model(model=settings.served_name, digest=manifest.digest, run=manifest.run, version=__version__)
        linger = Linger(settings.linger_seconds)
        context = client.model_config.max_model_len
        broken = RequestModels(request_models()).problem
        args.slipway = Server(
            settings,
            manifest,
            keys,
            admission,
            metrics,
            context,
            linger,
            request_problem=broken,
            reads_calls=_reads_calls(args, client),
            refused_tokens=_refused_tokens(client.renderer),
        )
        import uvloop

        return uvloop.run(_serve(client, args, sock))


def _reads_calls(args: Any, client: Any) -> bool:
    """As vLLM's `OnlineRenderer` has it: two kinds of models bring a reader of their own."""
    from vllm.utils.mistral import is_mistral_tokenizer

    own = client.model_config.hf_config.model_type == "gpt_oss" or is_mistral_tokenizer(client.renderer.tokenizer)
    return args.tool_call_parser is not None or own


def _refused_tokens(renderer: Any) -> ControlTokens | None:
    from slipway_serving.engine import chat_renderer

    return chat_renderer.refused_tokens(renderer)


@contextlib.contextmanager
def _engine(
    settings: Settings, on_cpu: bool, threads: int, sock: socket.socket
) -> Iterator[tuple[Any, Namespace, ServerMetrics]]:
    """Starts the engine, before any event loop and thread of the server, and stops it in the end."""
    with imports.of_libraries():
        from prometheus_client import REGISTRY
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager
        from vllm.usage.usage_lib import UsageContext
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        from slipway_serving.engine import chat_renderer
        from slipway_serving.engine.token_count import token_counter

    args: Any = make_arg_parser(FlexibleArgumentParser()).parse_args(configuration.arguments(settings, on_cpu))
    forked = configuration.in_one_process(settings, on_cpu)
    if forked:
        _import_for_the_fork(settings.model)
    configuration.require_tool_parser(args.tool_call_parser, ToolParserManager.list_registered())
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
    try:
        validate_parsed_serve_args(args)
        # What it is used for decides the defaults that follow the device: how many answers at a time, above all.
        config = AsyncEngineArgs.from_cli_args(args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    except ValueError as error:
        raise SettingsError(configuration.refusal(error)) from None
    # vLLM sets `spawn` on a CPU while it makes the configuration, and where nothing is set `fork` is its default.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork" if forked else "spawn"
    if forked:
        parent = os.getpid()
        os.register_at_fork(after_in_child=lambda: _become_the_engine(parent, threads, sock))
    metrics = ServerMetrics(REGISTRY)
    chat_renderer.register()
    if forked:
        # What is there stays, and both processes share its memory for as long as neither's collector looks through it.
        gc.freeze()
    client = AsyncLLM.from_vllm_config(config, stat_loggers=[token_counter(metrics)])
    try:
        yield client, args, metrics
    finally:
        client.shutdown(timeout=http_server.STOP_SECONDS)


def _import_for_the_fork(model: Path) -> None:
    """Imports what the engine needs while there is one process.

    Registering the model's class also saves the process in which vLLM would inspect it, with all imports once more.
    """
    architectures = configuration.read_config(model).get("architectures")
    with imports.of_libraries():
        import vllm.v1.engine.core
        import vllm.v1.worker.cpu_model_runner  # noqa: F401
        from vllm.model_executor.models.registry import ModelRegistry

        for name in architectures if isinstance(architectures, list) else ():
            if known := ModelRegistry.models.get(name):
                ModelRegistry.register_model(name, known.load_model_cls())


def _become_the_engine(parent: int, threads: int, sock: socket.socket) -> None:
    """Runs in the forked engine, before anything else does."""
    import torch

    # The terminal's Ctrl-C and a signal to the group are the server's to handle: it drains, and stops the engine last.
    os.setpgid(0, 0)
    # A server that is killed cannot stop its engine, which would keep the memory and, with the socket, the port.
    if not end_with(parent, signal.SIGKILL):
        os._exit(1)
    sock.close()
    torch.set_num_threads(threads)


async def _serve(client: Any, args: Namespace, sock: socket.socket) -> int:
    from vllm import envs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config

    tasks = await client.get_supported_tasks()
    app = build_app(args, tasks, client.model_config)
    await init_app_state(client, app.state, args, tasks)
    server: Server = args.slipway
    app.state.slipway_parity = await parity_check.at_the_start(server.settings, server.manifest, client, app.state)
    for served in app.state.openai_serving_models.base_model_paths:
        # /v1/models tells it to whoever has a key: a folder of ours is nobody's matter.
        served.model_path = served.name
    config = uvicorn.Config(
        app,
        log_config=get_uvicorn_log_config(args),
        log_level=args.uvicorn_log_level,
        timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    most = most_connections(server.admission.max_concurrent + server.admission.max_queue)
    connections = Connections(most, ended=server.metrics.connection_ended)
    server.metrics.watch_connections(connections)
    http = app.state.server = HttpServer(config, connections)
    return await http_server.serve(http, server, sock, lambda: client.errored)
