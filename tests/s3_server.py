"""An S3 server on loopback for tests (ministack, in a process of its own), and a proxy that can come between.

ministack handles a PUT in one turn of its event loop, so that `If-None-Match: *` is atomic there; it does not check
signatures.
"""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

BUCKET = "memories"


class Server:
    """A running server with one empty bucket. `endpoint` is its URL."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        own = {"SERVICES": "s3", "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "TMPDIR": str(folder)}
        self._log = (folder / "s3.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env={**os.environ, **own, "LOG_LEVEL": "WARNING"},
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while not self._made_bucket():
            assert self._process.poll() is None, (folder / "s3.log").read_text()
            assert time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.05)

    def _made_bucket(self) -> bool:
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def environment(endpoint: str) -> dict[str, str]:
    """What a process needs to find the server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


class Proxy:
    """Passes requests on to a server, and counts them by kind in `counts`.

    `strip`: a request header that is taken away. `refuse`: an S3 error code that everything is answered with, as
    403. `before(method, path)` is called for each request, in its own thread, before it is passed on; if it returns
    a status, that is the answer.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        strip: str = "",
        refuse: str = "",
        before: Callable[[str, str], int | None] = lambda method, path: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.paths: list[str] = []
        self.before = before
        target = endpoint.removeprefix("http://")
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                self.server_side = http.client.HTTPConnection(target, timeout=60)

            def finish(self) -> None:
                super().finish()
                self.server_side.close()

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen(self.command, self.path)
                status = proxy.before(self.command, self.path)
                if refuse or status:
                    answer = (
                        f"<?xml version='1.0'?><Error><Code>{refuse or 'PreconditionFailed'}</Code></Error>"
                    )
                    self.reply(status or 403, [("Content-Type", "application/xml")], answer.encode())
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != strip.lower()}
                self.server_side.request(self.command, self.path, body, headers)
                found = self.server_side.getresponse()
                self.reply(
                    found.status, found.getheaders(), found.read(), length=found.getheader("Content-Length")
                )

            def reply(self, status, headers, body, length=None) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                known = length if self.command == "HEAD" and length else str(len(body))
                self.send_header("Content-Length", known)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

            def log_message(self, *args) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address) -> None:
                """A client that goes away in the middle, as killed processes do."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def seen(self, method: str, path: str) -> None:
        if method == "GET" and ("list-type=2" in path or "prefix=" in path):
            method = "LIST"
        self.counts[method] += 1
        self.paths.append(f"{method} {path}")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
