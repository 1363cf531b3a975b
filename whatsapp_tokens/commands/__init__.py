"""What the command line can ask for: a run, a dry run, a check, one token by hand."""
