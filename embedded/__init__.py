"""Private Postgres and Redis-compatible servers for one machine, and the supervisor that keeps them running.

Nothing here knows what runs on the servers: no table, no queue, no network. Linux only, because the promise that no
process outlives its owner rests on /proc and on parent-death signals.
"""
