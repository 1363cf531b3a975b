"""Renewing tokens: which channels to claim, what to decide about a token, and when to stop."""
