"""Sandboxes on another host, over the `ssh` program."""

from paddock.backends.ssh.backend import SshBackend

__all__ = ["SshBackend"]
