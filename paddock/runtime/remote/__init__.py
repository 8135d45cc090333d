"""The in-sandbox face: an agent inside a sandbox, a client outside, and the wire between them.

It imports where only the short list of requirements of a sandbox is installed.
"""
