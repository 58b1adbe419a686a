"""The command `slipway-server`: check everything that is cheap to check, then load the model.

Nothing heavy is imported here at the top: a wrong option must be told at once and not after vLLM's imports.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from slipway_core.protocol import artifact, exit_codes, trust
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.trust import StatementError, TrustError
from slipway_core.protocol.variables import STATEMENT_VARIABLE, TRUSTED_KEYS_VARIABLE
from slipway_serving import settings as checks
from slipway_serving.http.api_keys import ApiKeys, ApiKeysError
from slipway_serving.settings import EngineOptions, Limits, Settings, SettingsError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def serve(
    model: Annotated[Path, typer.Option(help="Folder of the artifact: safetensors, tokenizer, manifest.json.")],
    served_name: Annotated[str, typer.Option(help="Name by which clients ask for the model.")],
    digest: Annotated[str | None, typer.Option(help="Digest that the artifact must have (sha256:HEX).")] = None,
    parity: Annotated[
        Path | None, typer.Option(help="parity.json of the evaluation: what the server compares itself with.")
    ] = None,
    parity_digest: Annotated[str | None, typer.Option(help="Digest that the record must have (sha256:HEX).")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="File of bearer keys, one a line; read again when it changes.")
    ] = None,
    allow_anonymous: Annotated[bool, typer.Option(help="Answer without a key on any address.")] = False,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            min=1, help="Answers at a time (left out: 8 on a CPU, what the engine takes for the GPU there is)."
        ),
    ] = None,
    max_queue: Annotated[
        int | None,
        typer.Option(min=0, help="Requests that may wait; more are answered 429 (left out: four for each answer)."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most new tokens a request may ask for.")] = 1024,
    request_timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds a request may take.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds from SIGTERM, or from the end of the linger, to the end.")
    ] = 30,
    linger_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds after SIGTERM in which requests are still answered.")
    ] = 0,
    max_model_length: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer together.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share the model.")] = 1,
    gpu_memory_utilization: Annotated[float | None, typer.Option(min=0.01, max=1)] = None,
    kv_cache_gib: Annotated[
        float | None, typer.Option(min=0.01, help="GiB of the KV cache (on a CPU: 1 unless given).")
    ] = None,
) -> None:
    """Serve a model artifact: POST /chat, the OpenAI API under /v1, a chat page at /."""
    # Until the server can drain there is nothing to lose: SIGTERM during the load ends it, and that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_loading)
    settings = Settings(
        model=model,
        served_name=served_name,
        host=host,
        port=port,
        digest=digest,
        parity=parity,
        parity_digest=parity_digest,
        api_keys_file=api_keys_file,
        allow_anonymous=allow_anonymous,
        drain_seconds=drain_seconds,
        linger_seconds=linger_seconds,
        limits=Limits(
            max_concurrent=max_concurrent,
            max_queue=max_queue,
            max_new_tokens=max_new_tokens,
            request_timeout=request_timeout,
        ),
        engine=EngineOptions(
            max_model_length=max_model_length,
            dtype=dtype,
            tensor_parallel=tensor_parallel,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_gib=kv_cache_gib,
        ),
    )
    try:
        manifest, keys, sock = prepare(settings)
        _launch(settings, manifest, keys, sock)
    except (SettingsError, ApiKeysError, ArtifactError) as error:
        typer.echo(f"slipway-server: {error}", err=True)
        raise typer.Exit(exit_codes.BAD_INPUT) from None


def prepare(settings: Settings) -> tuple[Manifest, ApiKeys | None, socket.socket]:
    """Checks settings, keys, artifact and port, in order of cost, and returns what the server needs of each.

    Raises SettingsError, ApiKeysError or ArtifactError; a model that its statement does not let through is the first.
    """
    checks.check(settings)
    keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file is not None else None
    # The port is held from here on, but refuses connections until the model is loaded.
    sock = bind(settings.host, settings.port)
    manifest = artifact.verify(settings.model, settings.digest)
    require_statement(os.environ, manifest)
    return manifest, keys, sock


def require_statement(environment: Mapping[str, str], manifest: Manifest) -> None:
    """Checks that a trusted key says of this model that it passed, where the environment has a statement.

    Raises SettingsError that says why none does.
    """
    text, keys = environment.get(STATEMENT_VARIABLE), environment.get(TRUSTED_KEYS_VARIABLE)
    if text is None:
        return
    try:
        held = trust.check(text, manifest.digest, trust.keys_of(keys or "[]"))
    except TrustError as error:
        raise SettingsError(f"{TRUSTED_KEYS_VARIABLE}: {error}.") from None
    except StatementError as error:
        raise SettingsError(f"the model is not served: {error}.") from None
    judged = held.statement.predicate
    typer.echo(
        f"slipway-server: the verdict on {manifest.digest} is signed by the key {held.key.id}: evaluation "
        f"{judged.evaluation} of the run {judged.run.name}, {judged.judged_at}",
        err=True,
    )


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket bound to the address. Raises SettingsError when the port is in use or the host unknown."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise SettingsError(
            f"--host {host} --port {port}: {error.strerror or error}. Give another port, or stop what uses this one."
        ) from None
    return sock


def _launch(settings: Settings, manifest: Manifest, keys: ApiKeys | None, sock: socket.socket) -> NoReturn:
    from slipway_serving import launch

    _log_to_stderr()
    try:
        code = launch.serve(settings, manifest, keys, sock)
    except SettingsError as error:
        typer.echo(f"slipway-server: {error}", err=True)
        code = exit_codes.BAD_INPUT
    # Everything is stopped by now, and the destructors of the engine's libraries do not take the end of an
    # interpreter well: they would print a traceback, or abort.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _log_to_stderr() -> None:
    # On our own logger: libraries that vLLM imports set the root logger's level as they like.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s"))
    log = logging.getLogger("slipway_serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _stop_loading(number: int, _: Any) -> None:
    sys.exit(0 if number == signal.SIGTERM else 128 + number)
