"""A simulated year: the real command, night by night, against a Meta that fails.

    python -m sandbox year --channels 2000 --seed 1

The truth about every token is in the simulated Meta. Each night the database, the messages, the exit codes
and the audit log are compared with it: `rules` says what must be true.
"""
