"""The certificates that HTTPS connections are checked with, read once for all clients of the process."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=1)
def certificates() -> ssl.SSLContext:
    """httpx's own context, as SSL_CERT_FILE and SSL_CERT_DIR have it. Reading them takes some 50 ms."""
    import httpx

    return httpx.create_ssl_context()
