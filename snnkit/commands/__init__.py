"""What each command does, without its arguments' parsing: `snnkit.cli` makes one call into here."""
