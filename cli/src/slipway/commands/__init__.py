"""One file a command. Each imports what it needs inside, so that starting `slipway` imports nothing."""
