"""Many sandboxes at once: a list of tasks, a sandbox for each, and a ledger of what came of them.

The ledger is the only truth; files beside it are exports. See `Fleet` for the promises.
"""
