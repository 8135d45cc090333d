"""Where an engine is, found as the docker CLI finds it: from the environment and its files.

docker-py's own reader of contexts is not used: it takes the default engine where the configuration
cannot be read, looks for contexts in the working directory where there is none, and verifies no
certificates where a context does not say.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paddock.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from docker.tls import TLSConfig

__all__ = ["Endpoint", "read_settings", "settings_folder"]

DEFAULT = "unix:///var/run/docker.sock"
FORMS = "unix:///PATH, tcp://HOST:PORT or ssh://HOST"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine is: ``unix://``, ``tcp://`` or ``ssh://``, and its TLS files."""

    url: str
    ca: str | None = None
    cert: tuple[str, str] | None = None
    verify: bool = False

    @classmethod
    def find(cls, host: str | None = None) -> Endpoint:
        """Find it as the docker CLI does: `host`, DOCKER_HOST, the current context, the socket.

        An empty value counts as unset. Raise `ConfigError` naming the value or file that is wrong.
        """
        if host:
            return cls._from_environment(_checked(host, f"host={host!r}"))
        if url := os.environ.get("DOCKER_HOST"):
            return cls._from_environment(_checked(url, f"DOCKER_HOST={url!r}"))
        return cls._from_context()

    @classmethod
    def _from_environment(cls, url: str) -> Endpoint:
        verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
        told = os.environ.get("DOCKER_CERT_PATH")
        if not url.startswith("tcp://") or not (verify or told):
            return cls(url)
        folder = settings_folder(told)
        files = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
        for file in files if verify else files[1:]:
            if not file.is_file():
                raise ConfigError(f"there is no certificate {file}; set DOCKER_CERT_PATH")
        ca, cert, key = map(str, files)
        return cls(url, ca=ca, cert=(cert, key), verify=verify)

    @classmethod
    def _from_context(cls) -> Endpoint:
        """Find the engine of the current context, or raise `ConfigError`; never take another."""
        folder = settings_folder(os.environ.get("DOCKER_CONFIG"))
        config = read_settings(folder / "config.json") or {}
        name = os.environ.get("DOCKER_CONTEXT") or config.get("currentContext") or "default"
        if name == "default":
            return cls(DEFAULT)
        place = hashlib.sha256(str(name).encode()).hexdigest()
        meta = folder / "contexts" / "meta" / place / "meta.json"
        told = read_settings(meta)
        if told is None:
            raise ConfigError(f"the docker context {name} does not exist; see `docker context ls`")
        try:
            docker = told["Endpoints"]["docker"]
            url = _checked(docker.get("Host") or DEFAULT, f"the docker context {name}")
            verify = not docker.get("SkipTLSVerify")
        except (KeyError, TypeError, AttributeError):
            raise ConfigError(f"{meta} is not a docker context") from None
        files = [
            folder / "contexts" / "tls" / place / "docker" / file
            for file in ("ca.pem", "cert.pem", "key.pem")
        ]
        ca, cert, key = (str(file) if file.is_file() else None for file in files)
        return cls(url, ca=ca, cert=(cert, key) if cert and key else None, verify=verify)

    def tls(self) -> TLSConfig | None:
        if self.cert is None and self.ca is None:
            return None
        from docker.tls import TLSConfig

        return TLSConfig(
            client_cert=self.cert, ca_cert=self.ca if self.verify else None, verify=self.verify
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """The same for a stream of ours."""
        if self.cert is None and self.ca is None:
            return None
        import ssl

        context = ssl.create_default_context(cafile=self.ca if self.verify else None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            context.load_cert_chain(*self.cert)
        return context


def _checked(url: object, source: str) -> str:
    """Return an address in one of the `FORMS`; docker-py's spelling of a socket becomes plain."""
    if not isinstance(url, str):
        raise ConfigError(f"{source}: an engine is at {FORMS}")
    url = url.replace("http+unix://", "unix://")
    try:
        place = urlsplit(url)
        parts = {
            "unix": not place.netloc and place.path,
            "tcp": place.hostname and place.port,
            "ssh": place.hostname and (place.port is None or place.port),
        }
    except ValueError as error:
        raise ConfigError(f"{source}: {error}; an engine is at {FORMS}") from None
    if not parts.get(place.scheme):
        raise ConfigError(f"{source}: an engine is at {FORMS}")
    return url


def read_settings(path: Path) -> dict[str, Any] | None:
    """Return a JSON object from a file of the docker CLI; None if there is no file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} cannot be read: it is no JSON object")
    return found


def settings_folder(told: str | None) -> Path:
    """Return the directory that was `told`, or the docker CLI's own."""
    try:
        return Path(told or "~/.docker").expanduser()
    except RuntimeError:
        return Path("/.docker")  # of a user who has no home
