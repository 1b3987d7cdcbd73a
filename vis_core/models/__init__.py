"""Networks, and the files their weights come in."""
