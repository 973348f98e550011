"""tidemark beside Prometheus Alertmanager: the same alerts, the same configuration, the same receivers."""
