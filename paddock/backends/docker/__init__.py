"""Sandboxes in containers; importing this does not import docker."""

from paddock.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
