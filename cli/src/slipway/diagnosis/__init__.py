"""What is wrong with a run or a machine, and what to do about it: `slipway doctor`."""
