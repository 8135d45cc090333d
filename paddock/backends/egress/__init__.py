"""The way out of a sandbox that has an allow list: a proxy, on this side of the guest's stream."""

from paddock.backends.egress.gate import gate

__all__ = ["gate"]
