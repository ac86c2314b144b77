"""What Prometheus reads: totals folded from the audit log, what is open now, and what this process has answered."""
