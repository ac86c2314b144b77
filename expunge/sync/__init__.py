"""The client, blocking. `make client` writes this package from `expunge/aio`: change that."""
