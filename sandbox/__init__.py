"""A simulated Meta on loopback, and a database with a channel in every condition.

The demo, the tests and the benchmarks share it. It imports nothing of the program, and the program imports
nothing of it. Every token, secret and name is made up.
"""
