"""The way to the API server, for our own calls and for Kopf's watches: a pod's service account, or a kubeconfig."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import kopf
from kubernetes.aio import client, config

from slipway_operator.kube.watch_session import WatchSession

_USER_AGENT = "slipway-operator"


class NoCluster(Exception):
    """The operator does not know where its API server is; the message says what was looked for."""


@dataclass(frozen=True)
class Connection:
    configuration: Any
    """A kubernetes.aio Configuration, which renews its own token."""

    def api_client(self) -> Any:
        """Returns a client; close it with `await client.close()`."""
        # Otherwise aiohttp looks for a .netrc and for proxies at each request, which takes more than the request does,
        # and sends nothing at all where a .netrc has an entry for this server beside our token.
        self.configuration.client_session_kwargs = {"trust_env": False}
        made = cast(Any, client.ApiClient(self.configuration))
        made.user_agent = _USER_AGENT
        return made

    async def kopf_session(self, trace: aiohttp.TraceConfig) -> kopf.AiohttpSession:
        """Returns the session of Kopf's watches, with the token of now: Kopf asks again once it is refused."""
        own = self.configuration
        headers = {"User-Agent": _USER_AGENT}
        auth = await own.auth_settings()
        if "BearerToken" in auth:
            headers["Authorization"] = auth["BearerToken"]["value"]
        rest = cast(Any, client.ApiClient(own)).rest_client
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=rest.ssl_context),
            headers=headers,
            proxy=own.proxy,
            trace_configs=[trace],
            read_bufsize=2**21,
        )
        return kopf.AiohttpSession(server=own.host, aiohttp_session=cast(Any, WatchSession(session)))


async def connect(kubeconfig: Path | None, context: str | None) -> Connection:
    """Finds the API server. Raises NoCluster."""
    configuration = cast(Any, client.Configuration())
    named = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if named is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            cast(Any, config).load_incluster_config(client_configuration=configuration)
        else:
            await cast(Any, config).load_kube_config(
                config_file=str(named or config.KUBE_CONFIG_DEFAULT_LOCATION),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, OSError) as error:
        where = named or f"a pod's service account, and {config.KUBE_CONFIG_DEFAULT_LOCATION}"
        raise NoCluster(f"no API server: looked for {where}: {error}") from error
    configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
    return Connection(configuration)


def _proxy_for(server: str) -> str | None:
    """Returns the proxy that the environment names for a server; None for none. One that is reached by TLS itself is
    left out, as aiohttp leaves it out."""
    address = urlsplit(server)
    if proxy_bypass(address.hostname or ""):
        return None
    proxy = getproxies().get(address.scheme)
    return proxy if proxy is not None and urlsplit(proxy).scheme != "https" else None
