"""A real engine with its renderers that is held against one record after another: `parity_engine MODEL DTYPE RECORDS`.

Writes `<name>.outcome` beside each `<name>.json` of the folder RECORDS, and the CPU-seconds of each check, of this
process and of the engine's, to `seconds`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway_core.protocol import artifact
from slipway_core.protocol.parity import Outcome
from slipway_serving import launch
from slipway_serving.engine import configuration, parity_check
from slipway_serving.settings import EngineOptions, Settings


def main(model: Path, dtype: str, records: Path) -> None:
    settings = Settings(model=model, served_name="tiny", engine=EngineOptions(dtype=dtype, kv_cache_gib=0.1))
    manifest = artifact.verify(model)
    inherited = dict(os.environ)
    os.environ.update(configuration.environment(settings, True, inherited))
    threads = configuration.cpu_threads(inherited)
    with socket.socket() as sock, launch._engine(settings, True, threads, sock) as (client, args, _):
        import uvloop

        uvloop.run(_check_all(client, args, manifest, sorted(records.glob("*.json"))))


async def _check_all(client: Any, args: Any, manifest: artifact.Manifest, records_in: list[Path]) -> None:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    os.environ["VLLM_PLUGINS"] = ""
    args.middleware = []
    tasks = await client.get_supported_tasks()
    app = build_app(args, tasks, client.model_config)
    await init_app_state(client, app.state, args, tasks)
    seconds: dict[str, float] = {}
    for path in records_in:
        read = parity_check.read(path, None, manifest)
        before = _cpu_seconds()
        outcome = read if isinstance(read, Outcome) else await parity_check.check(read, manifest, client, app.state)
        seconds[path.stem] = round(_cpu_seconds() - before, 3)
        path.with_suffix(".outcome").write_text(json.dumps(dataclasses.asdict(outcome)), encoding="utf-8")
    (records_in[0].parent / "seconds").write_text(json.dumps(seconds), encoding="utf-8")


def _cpu_seconds() -> float:
    """Of this process and its children, which live on: user and system time."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
    return sum(sum(_times(pid)) for pid in [str(own), *children])


def _times(pid: str) -> Iterator[float]:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    for place in (11, 12):
        yield int(fields[place]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
