"""From the watches to the cache and the queue: Kopf's handlers, which passes an event is worth, and the resync."""
