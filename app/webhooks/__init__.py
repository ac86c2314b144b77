"""Webhooks: who is told of what, and how it gets there. The audit log is the outbox: whatever changes appends its event in
its own transaction, the log's numbers have no gaps and follow the commits, and each endpoint keeps the number up to which
its deliveries were written. So nothing committed can be missed, and nothing that was rolled back can be sent.

endpoints.py keeps the endpoints, keys.py their secrets, events.py the words and shapes that receivers see, relay.py writes
deliveries, deliveries.py claims them and keeps account, sending.py makes the call, addresses.py says whom it may reach.
"""
