"""The client, awaited. `make client` writes `expunge/sync` from this package: what is changed is changed here."""
