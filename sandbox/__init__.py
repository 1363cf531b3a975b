"""A simulated Meta on loopback, and a database with a channel in every condition.

The demo, the tests and the benchmarks share it, and people who rehearse with their own application. The
simulated Meta imports nothing of the program, so that it is a second opinion; `seed` reads the program's
settings. The program imports nothing of it. Every token, secret and name is made up.
"""
