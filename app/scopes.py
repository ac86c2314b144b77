"""What a key or a token may open."""

from enum import StrEnum


class Scope(StrEnum):
    DELETIONS_WRITE = "deletions:write"
    DELETIONS_READ = "deletions:read"
    AUDIT_READ = "audit:read"
    POLICIES_WRITE = "policies:write"
    POLICIES_APPROVE = "policies:approve"
    RETRAINS_WRITE = "retrains:write"
    WEBHOOKS_WRITE = "webhooks:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"
