"""Machines that watch the job: a heartbeat, Prometheus and GitHub Actions."""
