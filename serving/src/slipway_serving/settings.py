"""What a server is told at its start, checked before anything heavy is loaded."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path


class SettingsError(Exception):
    """A setting cannot be used: the message names the option, the value and what to do."""


@dataclass(frozen=True)
class Limits:
    """What one client, and all clients together, may ask for."""

    max_concurrent: int | None = None
    """Answers that are made at the same time; None: what the device is good for."""
    max_queue: int | None = None
    """Requests that wait for a free place; more are answered 429. None: four for each place."""
    max_new_tokens: int = 1024
    """Most new tokens that one request may ask for."""
    request_timeout: float | None = None
    """Seconds that a request may take, its time in the queue included; None: no limit."""
    max_body_bytes: int = 4 * 1024 * 1024
    body_timeout: float = 30.0
    """Seconds within which a request's body must have arrived."""


@dataclass(frozen=True)
class EngineOptions:
    """How the model is loaded. None leaves the choice to the engine."""

    max_model_length: int | None = None
    dtype: str = "auto"
    tensor_parallel: int = 1
    gpu_memory_utilization: float | None = None
    kv_cache_gib: float | None = None


@dataclass(frozen=True)
class Settings:
    model: Path
    served_name: str
    host: str = "127.0.0.1"
    port: int = 8000
    digest: str | None = None
    parity: Path | None = None
    """Record of the evaluation, by which the server proves that it is the model that was judged."""
    parity_digest: str | None = None
    api_keys_file: Path | None = None
    allow_anonymous: bool = False
    drain_seconds: float = 30.0
    linger_seconds: float = 0.0
    """From SIGTERM to the drain; requests are still answered."""
    limits: Limits = field(default_factory=Limits)
    engine: EngineOptions = field(default_factory=EngineOptions)

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def local_only(self) -> bool:
        """Anyone on this machine, and nobody else: then the Host header must be a name of this machine."""
        return self.api_keys_file is None and self.on_loopback and not self.allow_anonymous


def is_loopback(host: str) -> bool:
    """Tells whether a host name or address, with or without brackets, can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check(settings: Settings) -> None:
    """Raises SettingsError for settings that would make a server that is open to strangers, or none at all."""
    if settings.api_keys_file is not None and settings.allow_anonymous:
        raise SettingsError("--api-keys-file and --allow-anonymous contradict each other: leave one of them out.")
    if settings.api_keys_file is None and not settings.allow_anonymous and not settings.on_loopback:
        raise SettingsError(
            f"--host {settings.host}: the server would answer anyone who can reach this machine. Give --api-keys-file "
            "FILE (one key a line), or say --allow-anonymous if access is controlled elsewhere, or use "
            "--host 127.0.0.1."
        )
    if not settings.served_name.strip():
        raise SettingsError("--served-name is empty: give the name by which clients ask for the model.")
