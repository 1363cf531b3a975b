"""Monitoring: a heartbeat, Prometheus and GitHub Actions."""
