"""Renew WhatsApp access tokens: everything behind the five modules that stand beside this package.

One token's way: `commands` reads the settings and starts a run; `renewal` claims due channels through
`database`, asks Meta through `meta_client`, and writes what came of it; `reports` and `monitoring` tell
people and machines.
"""
