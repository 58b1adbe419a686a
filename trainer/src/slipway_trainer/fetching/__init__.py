"""From a URI of the plan to files on this machine."""
