"""A private registry on loopback: Debian's docker-registry, and a token service for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import http.server
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

__all__ = ["PASSWORD", "TOKEN", "USER", "Registry", "serving"]

USER, PASSWORD, TOKEN = "bob", "s3cret-of-bob", "identity-token-of-bob"
ISSUER = "paddock-test"
PATIENCE = 60.0


@dataclass
class Registry:
    """Where the registry is, and as whom its token service was asked."""

    host: str
    asked: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Registry]:
    port = _free_port()
    registry = Registry(f"127.0.0.1:{port}")
    with _token_service(folder / "root.pem", registry) as realm:
        config = folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(_config(folder, port, realm)))
        process = await asyncio.create_subprocess_exec(
            "docker-registry",
            "serve",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await _until_it_answers(f"http://{registry.host}/v2/")
            yield registry
        finally:
            process.kill()
            await process.wait()


def _config(folder: Path, port: int, realm: str) -> dict[str, Any]:
    token = {
        "realm": realm,
        "service": "registry",
        "issuer": ISSUER,
        "rootcertbundle": str(folder / "root.pem"),
    }
    return {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
        "auth": {"token": token},
    }


@contextlib.contextmanager
def _token_service(root: Path, registry: Registry) -> Iterator[str]:
    """Serve tokens to who has the password or the identity token; yield the address."""
    sign, chain = _authority(root)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = (self.headers.get("Authorization") or "").removeprefix("Basic ")
            pair = base64.b64decode(given).decode()
            registry.asked.append(pair.partition(":")[0])
            self._answer(parse_qs(urlsplit(self.path).query), pair == f"{USER}:{PASSWORD}")

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            form = parse_qs(self.rfile.read(size).decode())
            registry.asked.append(form["grant_type"][0])
            self._answer(form, form.get("refresh_token") == [TOKEN])

        def _answer(self, asked: dict[str, list[str]], known: bool) -> None:
            body = b'{"details": "incorrect username or password"}'
            if known:
                token = _token(asked.get("scope", []), sign, chain)
                body = json.dumps({"token": token, "access_token": token}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


def _authority(root: Path) -> tuple[rsa.RSAPrivateKey, str]:
    """Write a certificate that the registry trusts; return its key, and the certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key, base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def _token(scopes: list[str], key: rsa.RSAPrivateKey, chain: str) -> str:
    access = []
    for scope in " ".join(scopes).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {
        "iss": ISSUER, "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 60,
        "iat": now, "jti": "1", "access": access,
    }  # fmt: skip
    head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(_answers, url):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
