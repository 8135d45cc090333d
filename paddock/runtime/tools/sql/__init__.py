"""Databases as tools: `sqlite`, `postgres`, `mysql` and `oracle`, written once.

`config` is what a person writes, `statement` and `policy` decide what may be sent, with
`effects` for what only a PostgreSQL server knows. `servers` is what differs between
databases, `line` is one connection for one call and `handler` is the tool. The database's
own session is what enforces that nothing is written; reading the statement first catches
what a session lets through.
"""
