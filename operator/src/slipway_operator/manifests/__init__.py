"""One pure builder a file: plain data in, a manifest out. Nothing here talks to a cluster."""
