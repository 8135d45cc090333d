"""Approvals: which calls need one, where requests wait, and who answers them.

The plain data and the protocols are in `paddock.runtime.core.approval`.
"""
