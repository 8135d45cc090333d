"""What runs inside a sandbox: standard library only, Python 3.8 or newer.

It is the sandbox's first process and its only wire. It reads frames on stdin and
writes frames on stdout (``docs/guest-protocol.md``), starts commands, streams their
output with back-pressure, ends whole trees of processes, and reads and writes files.
When its input ends, everything that it started is killed and it exits.

The folder is put into a sandbox as it is and imported there by itself, so its
modules import only each other, relatively. It does not know what an agent or a
host is, nor which backend put it here.
"""
