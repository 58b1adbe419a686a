"""`slipway stop`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Workdir

if TYPE_CHECKING:
    from slipway.local.state import State


def stop(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An endpoint, or a run at work; every endpoint when left out."),
    ] = None,
    workdir: Workdir = HERE,
) -> None:
    """Stop serving, or have a run checkpoint and end. What was trained stays."""
    from slipway.exits import BadInput
    from slipway.local.state import State

    state = State.below(workdir)
    endpoints = {folder.name: folder for folder in state.endpoints()}
    if name is not None and name not in endpoints:
        if not state.run(name).exists():
            known = ", ".join([*endpoints, *(folder.name for folder in state.runs())]) or "nothing"
            raise BadInput(f"there is no endpoint and no run {name!r} in {state.root}; there is: {known}")
        _interrupt(name, state)
        return
    live = [folder for folder in ([endpoints[name]] if name else endpoints.values()) if folder.daemon() is not None]
    for folder in live:
        from slipway.local.endpoint_daemon import stop_daemon

        stop_daemon(state, folder.name)
        print(f"endpoint {folder.name} is stopped")
    if not live:
        print(f"endpoint {name} does not run" if name else "nothing serves")


def _interrupt(name: str, state: State) -> None:
    import os
    import signal
    import time

    folder = state.run(name)
    holder = folder.holder()
    if holder is None:
        print(f"run {name} is not at work")
        return
    os.kill(holder, signal.SIGTERM)
    print(f"run {name} stops at a checkpoint …", flush=True)
    while folder.holder() == holder:
        time.sleep(0.2)
    print(f"run {name} is stopped; `slipway run` goes on from there")
