"""Sandboxes of images that have no Python: the engine's exec, with a shell as the first process.

The contract is kept where it can be; ``docs/images-without-python.md`` says where not.
"""
