"""From the files that a plan names to checked, tokenised data that shares nothing with what is held out: `prepare`."""
