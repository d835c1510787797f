"""The work of each command, one module each; `commands` parses the flags and calls these."""
