"""A repository over HTTP, by git's own http-backend, which also takes large uploads."""

from __future__ import annotations

import contextlib
import http.server
import os
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["git", "serving"]


def git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve the repositories in `folder` on loopback; yield the port.

    What is PUT is counted, and the answer is the number of bytes.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve_git(b"")

        def do_POST(self) -> None:
            self._serve_git(self._body())

        def do_PUT(self) -> None:
            self._answer(200, "text/plain", str(len(self._body())).encode())

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _serve_git(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            env = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": self.command, "REMOTE_USER": "somebody",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            ended = subprocess.run(
                ["git", "http-backend"], env=env, input=body, capture_output=True, check=True
            )
            head, _, content = ended.stdout.partition(b"\r\n\r\n")
            lines = (line.split(": ", 1) for line in head.decode().split("\r\n"))
            fields = {name.lower(): value for name, value in lines}
            status = int(fields.get("status", "200").split()[0])
            self._answer(status, fields.get("content-type", "text/plain"), content)

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
