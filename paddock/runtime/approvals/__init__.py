"""Approvals: which calls need one, where requests wait, and how they are answered.

The plain data and the protocols are in `paddock.runtime.core.approval`.
"""
