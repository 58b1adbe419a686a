"""Which target a command is about: the state folder, or a cluster."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.exit_codes import BadInput
from slipway.options import HERE
from slipway.screen.printing import note
from slipway.target import Target

if TYPE_CHECKING:
    from slipway.cluster.target import ClusterTarget
    from slipway.local.state import State


@dataclass(frozen=True)
class Wanted:
    """What the options say."""

    workdir: Path = HERE
    local: bool | None = None
    """None: whichever holds what is asked for."""
    context: str | None = None
    namespace: str | None = None


def choose(wanted: Wanted, name: str | None = None) -> Target:
    """Returns the target that a command is about.

    Options decide first; without any it is the folder when it holds the named run or endpoint, or anything where none
    is named; else the current kube context, and the folder again where there is no context. A cluster that nobody
    asked for is named on stderr.

    Raises BadInput for options that contradict each other, and ClusterError when a cluster was asked for and there is
    no way to one.
    """
    from slipway.local.state import State
    from slipway.local.target import LocalTarget

    state = State.below(wanted.workdir)
    local = _by_options(wanted)
    if local is None:
        if _holds(state, name):
            return LocalTarget(state)
        found = _current(wanted, state)
        if found is None:
            return LocalTarget(state)
        note(f"{found.title}:")
        return found
    return LocalTarget(state) if local else cluster(wanted)


def cluster(wanted: Wanted) -> ClusterTarget:
    """Returns the cluster that the options name, or the current one. Raises ClusterError when there is none."""
    from slipway.cluster.kubectl import connect
    from slipway.cluster.target import ClusterTarget

    kubectl = connect(wanted.context, wanted.namespace)
    _leave_nothing_behind()
    return ClusterTarget(kubectl)


def _by_options(wanted: Wanted) -> bool | None:
    """Returns whether the options ask for the folder; None when they leave it open."""
    named = "--context" if wanted.context else "--namespace" if wanted.namespace else None
    if named and wanted.local:
        raise BadInput(f"--local and {named}: a folder has no such thing; leave one of them out")
    if named:
        return False
    if wanted.local is None and wanted.workdir != HERE:
        return True
    return wanted.local


def _holds(state: State, name: str | None) -> bool:
    if name is None:
        return bool(state.runs() or state.endpoints())
    bare = name.removeprefix("endpoint/")
    return (bare == name and state.run(name).exists()) or state.endpoint(bare).exists()


def _current(wanted: Wanted, state: State) -> ClusterTarget | None:
    """Returns the current kube context, None where there is none or no kubectl."""
    from slipway.cluster.kubectl import NoCluster, connect
    from slipway.cluster.target import ClusterTarget

    try:
        kubectl = connect(wanted.context, wanted.namespace)
    except NoCluster:
        return None
    _leave_nothing_behind()
    return ClusterTarget(kubectl, also_searched=str(state.root))


def _leave_nothing_behind() -> None:
    """Has signals that end the process unwind it first: a port-forward or a pod must not outlive the command."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
