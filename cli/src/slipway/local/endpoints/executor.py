"""The local executor of an endpoint: observe its servers, step, write the status, apply.

It is the twin of the operator's reconcile of a ModelEndpoint, and decides nothing itself: policy is `rollout.step`
alone. The status is written before a decision is applied, so that whoever comes after a crash knows what was decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from slipway.local import ports
from slipway.local.endpoints import frozen_version, server_log
from slipway.local.endpoints.frozen_version import FrozenVersion
from slipway.local.endpoints.relay import Backend, Relay, Unavailable
from slipway.local.endpoints.server_process import Launch, Patience
from slipway.local.endpoints.version_server import VersionServer
from slipway.local.judgements import Judgements
from slipway.local.ports import LOOPBACK
from slipway.local.state import EndpointFolder, State, StateError
from slipway.local.statements import Statements, frozen_statement
from slipway.start_wait import ServerEnd
from slipway_core.lifecycle.annotations import RETRY_ANNOTATION, request_token
from slipway_core.protocol.commands import serve_command, serve_environment
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources import conditions, uris
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import Blocker, timestamp
from slipway_core.resources.events import Event
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointPhase, EndpointStatus, ParityStatus, VersionStatus
from slipway_core.rollout import step as rollout
from slipway_core.rollout.decision import EndpointDecision
from slipway_core.rollout.observed import EndpointObserved, Proof

logger = logging.getLogger(__name__)

Command = Callable[[FrozenVersion, VersionStatus, str, int], tuple[str, ...]]
"""Returns the command of a server from its settings, its version, the endpoint's name and its port."""

_EVENTS_BYTES = 1 << 20
_ANSWERS_END_SECONDS = 5.0


def slipway_server(frozen: FrozenVersion, version: VersionStatus, name: str, port: int) -> tuple[str, ...]:
    """Returns the command line of the real server."""
    arguments = serve_command(
        frozen.settings,
        model=str(frozen.model),
        digest=version.digest,
        name=name,
        host=LOOPBACK,
        port=port,
        parity=uris.parse(version.parity.uri).path if version.parity else None,
        parity_digest=version.parity.digest if version.parity else None,
        keys_file=str(frozen.keys_file) if frozen.keys_file else None,
        allow_anonymous=frozen.settings.access.anonymous is True,
        device="cuda" if Path("/dev/nvidiactl").exists() and _has_cuda_variant() else "cpu",
    )
    return (sys.executable, "-P", "-m", "slipway_serving", *arguments)


def _has_cuda_variant() -> bool:
    try:
        return bool(metadata.version("vllm"))  # The CPU variant is a distribution of another name.
    except metadata.PackageNotFoundError:
        return False


@dataclass(frozen=True)
class _Stamp:
    """Tells whether a file is still the one that was read."""

    modified: int
    size: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> _Stamp | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


class EndpointExecutor:
    """Whoever uses it holds EndpointFolder.lock."""

    def __init__(
        self,
        state: State,
        name: str,
        *,
        command: Command = slipway_server,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        tick: float = 0.25,
    ) -> None:
        """`tick` is the time between two looks at the world, in seconds. Raises StateError for a damaged endpoint."""
        self._state = state
        self._folder: EndpointFolder = state.endpoint(name)
        self._stamp = _Stamp.of(self._file)
        self._endpoint: ModelEndpoint = self._folder.load()
        self._written: EndpointStatus | None = None
        self._command = command
        self._patience = patience or Patience()
        self._clock = clock
        self._tick = tick
        self._versions: dict[int, VersionServer] = {}
        self._statements = Statements(state)
        self._judgements = Judgements(state, clock)
        self._route: int | None = None
        self._frozen_versions: dict[tuple[int, str], FrozenVersion] = {}
        self._problems: dict[str, Blocker] = {}
        self._stops = False
        self._relay = Relay(self._target)

    async def open(self) -> None:
        """Takes the port, and makes the status true again: the last daemon may have been killed while it served.

        Raises ports.PortInUse, or StateError for a port that may not be opened.
        """
        await self._relay.listen(LOOPBACK, self._endpoint.spec.port)
        self._forget_old_versions()
        await self._try_pass()

    async def work(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set or the endpoint is removed; then drains and ends all servers."""
        while not stop.is_set() and self._file.exists():
            await self._try_pass()
            try:
                await asyncio.wait_for(stop.wait(), self._tick)
            except TimeoutError:
                continue
        await self._end()

    # ------------------------------------------------------------------------------------------------ one pass

    async def _try_pass(self) -> None:
        try:
            await self._pass()
        except Exception:
            # One bad pass must not take the live version down; the next one sees the world anew.
            logger.exception("A pass failed; it is tried again.")

    async def _pass(self) -> None:
        self._reload()
        await self._listen(self._host(self._route))
        decision = rollout.step(self._endpoint, self._observe(), self._clock())
        self._remember(decision)
        await self._apply(decision)

    def _reload(self) -> None:
        stamp = _Stamp.of(self._file)
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = self._folder.load()
        except StateError as error:
            logger.error("%s; the endpoint goes on as it was", error)
            self._problems["SpecUnreadable"] = Blocker("SpecUnreadable", "Damaged", str(error))
            return
        self._problems.pop("SpecUnreadable", None)
        self._endpoint = fresh.model_copy(update={"status": self._endpoint.status})

    async def _listen(self, host: str) -> None:
        try:
            await self._relay.listen(host, self._endpoint.spec.port)
            self._problems.pop("PortUnavailable", None)
        except StateError as error:
            self._problems["PortUnavailable"] = Blocker("PortUnavailable", "NotOpened", str(error))

    def _host(self, route: int | None) -> str:
        """The version with the traffic decides from where it may be reached: keys that only its successor asks for
        protect nobody yet."""
        live = self._status.live
        if live is None or route != live.version:
            return self._relay.address[0] if self._relay.address else LOOPBACK
        try:
            return self._frozen(live).host
        except StateError:
            return LOOPBACK

    def _observe(self) -> EndpointObserved:
        views = {number: view for number, version in self._versions.items() if (view := version.observe())}
        self._versions = {number: version for number, version in self._versions.items() if not version.gone}
        address = self._relay.address
        keys, proofs, records = self._proofs()
        return EndpointObserved(
            versions=views,
            route=self._route,
            passed=frozenset(digest for digest, proof in proofs.items() if proof.passes),
            url=f"http://127.0.0.1:{address[1]}" if address else None,
            retry=request_token(self._endpoint.metadata.annotations, RETRY_ANNOTATION),
            blockers=tuple(self._problems.values()),
            proofs=proofs,
            revoked=frozenset(key.id for key in keys if key.revoked),
            parity=records,
            judgements=self._judgements.of(self._folder.name),
        )

    def _proofs(self) -> tuple[tuple[TrustedKey, ...], Mapping[str, Proof], Mapping[str, ParityStatus]]:
        """Returns the trusted keys, which models may start by what they signed, and the records by which their servers
        prove themselves. While the keys cannot be read nothing new starts, and nothing that is live ends."""
        try:
            keys = self._statements.trusted()
            proofs = self._statements.proofs(self._digests(), self._status, self._clock())
            records = self._statements.parity(self._digests())
        except StateError as error:
            self._problems["KeysUnreadable"] = Blocker("KeysUnreadable", "Damaged", str(error))
            return (), {}, {}
        self._problems.pop("KeysUnreadable", None)
        return keys, proofs, records

    def _digests(self) -> set[str]:
        """Every model that could be asked for now."""
        status, model = self._status, self._endpoint.spec.model
        known = [v.digest for v in [status.live, status.candidate, *status.history] if v is not None]
        return {*known, model.digest} if model is not None else set(known)

    @property
    def _status(self) -> EndpointStatus:
        return self._endpoint.status or EndpointStatus()

    def _remember(self, decision: EndpointDecision) -> None:
        """Keeps the decision's status. One that cannot be written now (a full disk) is written by a later pass."""
        self._endpoint = self._endpoint.model_copy(update={"status": decision.status})
        try:
            if decision.status != self._written:
                self._folder.save_status(decision.status)
                self._written = decision.status
            self._append(decision.events)
        except OSError as error:
            logger.error("The status cannot be written: %s", error)

    def _append(self, events: tuple[Event, ...]) -> None:
        if not events:
            return
        path = self._folder.root / "events.jsonl"
        server_log.bound(path, _EVENTS_BYTES)
        server_log.bound(self._folder.log)
        with path.open("a", encoding="utf-8") as file:
            for event in events:
                logger.info("%s: %s", event.reason, event.message)
                row = {"time": timestamp(self._clock()), "type": event.type, "reason": event.reason}
                file.write(json.dumps({**row, "message": event.message}, ensure_ascii=False) + "\n")

    async def _apply(self, decision: EndpointDecision) -> None:
        for version in decision.start:
            self._version(version).start()
        if decision.probe in self._versions:
            self._versions[decision.probe].ask()
        if decision.route is not None:
            await self._switch(decision.route)
        for number in decision.stop:
            if number in self._versions:
                self._versions[number].stop()

    async def _switch(self, route: int) -> None:
        """Moves the traffic. A version that answers without a key is not reached from outside for a moment either."""
        host = self._host(route)
        if host == LOOPBACK:
            await self._listen(host)
        self._route = route
        await self._listen(host)

    def _forget_old_versions(self) -> None:
        """Removes the logs of versions that the status does not remember any more."""
        status = self._status
        known = {v.version for v in [status.live, status.candidate, *status.history] if v is not None}
        for folder in (self._folder.root / "versions").glob("*"):
            if folder.name.isdigit() and int(folder.name) not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def _version(self, version: VersionStatus) -> VersionServer:
        if version.version not in self._versions:
            number = version.version
            self._versions[number] = VersionServer(
                number, lambda: self._launch(version), self._patience, lambda *end: self._note_end(number, *end)
            )
        return self._versions[version.version]

    def _note_end(self, version: int, why: str, in_a_row: int) -> None:
        """Writes it where whoever waits for the version finds it. On a full disk nobody hears of it, and it serves."""
        with contextlib.suppress(OSError):
            self._folder.add_server_end(version, ServerEnd(self._clock(), why, in_a_row))

    def _frozen(self, version: VersionStatus) -> FrozenVersion:
        key = (version.version, version.revision)
        if key not in self._frozen_versions:
            self._frozen_versions[key] = frozen_version.freeze(self._folder, version, self._endpoint.spec)
        return self._frozen_versions[key]

    def _launch(self, version: VersionStatus) -> Launch:
        frozen, port = self._frozen(version), ports.private_port()
        return Launch(
            command=self._command(frozen, version, self._folder.name, port),
            port=port,
            log=self._folder.version(version.version) / "server.log",
            drain=seconds(frozen.settings.rollout.drain),
            keys_file=frozen.keys_file,
            compares=version.parity is not None,
            max_new_tokens=frozen.settings.limits.max_new_tokens,
            environment=self._statement(version),
        )

    def _statement(self, version: VersionStatus) -> Mapping[str, str]:
        """Returns the variables by which a server finds that its model passed. None of a version that was accepted
        without a verdict, or that an earlier release started. Raises StateError."""
        if version.signed_by is None:
            return {}
        path, keys = self._folder.version(version.version) / "statement.json", self._statements.trusted()
        text = frozen_statement(path, version.digest, keys, self._statements.standing(version.digest))
        return serve_environment(text, keys)

    # ------------------------------------------------------------------------------------------------ the traffic

    def _target(self) -> Backend | Unavailable:
        """Where a request goes that comes now."""
        if self._stops:
            return Unavailable("it is being stopped", 10)
        routed = self._versions.get(self._route) if self._route is not None else None
        if routed is not None:
            return routed.target()
        candidate = self._status.candidate
        if candidate is not None:
            starting = self._versions.get(candidate.version)
            target = starting.target() if starting else None
            wait = target.retry_after if isinstance(target, Unavailable) else 1
            return Unavailable(f"version {candidate.version} starts, and none is live yet", wait)
        ready = conditions.find(self._status.conditions, "Ready")
        return Unavailable(ready.message if ready else "it starts", 10)

    async def _end(self) -> None:
        self._stops = True
        for version in self._versions.values():
            version.stop()
        while any(version.observe() is not None for version in self._versions.values()):  # noqa: ASYNC110 (no event)
            await asyncio.sleep(0.05)
        await self._relay.close(_ANSWERS_END_SECONDS)
        if self._file.exists():
            self._folder.save_status(self._stopped_status())

    def _stopped_status(self) -> EndpointStatus:
        """The last status, with the truth about now. It keeps what is live, so that the next start brings it back."""
        status, generation = self._status, self._status.observed_generation
        rows = conditions.put(
            status.conditions,
            "Ready",
            "False",
            conditions.STOPPED,
            "the endpoint is stopped",
            self._clock(),
            generation,
        )
        return status.model_copy(update={"phase": EndpointPhase.STOPPED, "conditions": rows})

    @property
    def _file(self) -> Path:
        return self._folder.root / "endpoint.json"
