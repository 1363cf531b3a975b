"""A stage to try the program on: a simulated Meta on loopback, and a database with a channel of every kind.

Demo, tests and benchmarks share it. Nothing here is imported by the program, and nothing here imports the
program. Every token, secret and name in it is made up.
"""
