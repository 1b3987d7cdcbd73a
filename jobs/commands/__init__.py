"""One module per command, or per family of commands: each adds its parser and runs it."""
