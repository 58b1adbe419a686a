"""`slipway-operator`: reads its settings, finds its API server, runs until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from slipway_operator import __version__, log
from slipway_operator.kube.connection import NoCluster, connect
from slipway_operator.process import Process
from slipway_operator.reconcilers import reconcilers
from slipway_operator.settings import Settings, SettingsError, load

_log = logging.getLogger(__name__)


def main() -> None:
    arguments = _parser().parse_args()
    log.configure(arguments.log_format)
    try:
        asyncio.run(_run(load(arguments.config), arguments.kubeconfig, arguments.context))
    except (SettingsError, NoCluster) as error:
        sys.exit(f"slipway-operator: {error}")
    except Exception:
        _log.exception("the operator ends")
        sys.exit(1)


async def _run(settings: Settings, kubeconfig: Path | None, context: str | None) -> None:
    asyncio.get_running_loop().set_exception_handler(log.of_event_loop)
    where = ", ".join(settings.watch_namespaces)
    _log.info(
        "slipway-operator %s looks after %s", __version__, f"the namespaces {where}" if where else "all namespaces"
    )
    connection = await connect(kubeconfig, context)
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    stop = asyncio.Event()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    take_signals()
    process = Process(settings, connection, reconcilers, identity, lambda: datetime.now(UTC), time.monotonic)
    await process.run(stop, after_start=take_signals)
    _log.info("the operator has ended")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("slipway-operator", description="Reconciles TrainingRuns and ModelEndpoints.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, as the chart writes them; else defaults")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="else a pod's service account, or KUBECONFIG")
    parser.add_argument("--context", help="of the kubeconfig; else its current one")
    parser.add_argument(
        "--log-format",
        choices=("json", "text"),
        default="json" if "KUBERNETES_SERVICE_HOST" in os.environ else "text",
        help="json in a pod, else text",
    )
    return parser
