"""The real daemon of an endpoint, with stand-in servers and less patience."""

import sys
from pathlib import Path

from slipway.local.endpoints import daemon
from slipway.local.endpoints.executor import EndpointExecutor
from slipway.local.endpoints.server_process import Patience

SERVER = Path(__file__).with_name("stand_in_server.py")
QUICK = Patience(
    look=0.05,
    reply=1.0,
    unready=1.0,
    hung=2.0,
    answer=5.0,
    kill=1.0,
    first_restart=0.3,
    longest_restart=2.0,
    steady=5.0,
)


def stand_in(frozen, version, name, port):
    keys = ["--keys", str(frozen.keys_file)] if frozen.keys_file else []
    drain = frozen.settings.rollout.drain.removesuffix("s")
    options = ["--model", str(frozen.model), "--port", str(port), "--drain", drain, *keys]
    return (sys.executable, "-S", str(SERVER), *options)


if __name__ == "__main__":
    sys.exit(
        daemon.main(make=lambda state, name: EndpointExecutor(state, name, command=stand_in, patience=QUICK, tick=0.05))
    )
