"""Exports: what other people's systems are told of versions and runs. The audit log is the outbox, as it is for webhooks: each
exporter keeps the number up to which it has told the log, so nothing committed is missed and nothing is told before it is.

follow.py walks along the log, registry.py keeps versions in an MLflow registry, openlineage.py tells of runs. An event may be
told twice, after a crash, and is known by its hash in the log: both ends then find what is there already.
"""
