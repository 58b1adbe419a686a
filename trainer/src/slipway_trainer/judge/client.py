"""What a judge's server is spoken to with: a proxy and the certificates are the environment's."""

from __future__ import annotations

from typing import Any

import httpx

from slipway_core.resources.judge import Judge
from slipway_trainer.step.errors import BadConfig


def opened(judge: Judge, **settings: Any) -> httpx.AsyncClient:
    """Returns a client that follows no redirect, which would take the key elsewhere, and bounds nothing in time.

    Raises BadConfig where what the environment says of a proxy or of certificates cannot be used.
    """
    try:
        return httpx.AsyncClient(timeout=None, follow_redirects=False, **settings)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        said = f"{type(error).__name__}: {error}"
    raise BadConfig(
        f"evaluation.judge.url: {judge.url} cannot be asked with the proxy and the certificates that the environment "
        f"names ({said}). See ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE and SSL_CERT_DIR: a proxy is http:// "
        "or https://, not SOCKS, and certificates are there"
    )
