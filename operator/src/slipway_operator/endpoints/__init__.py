"""One pass over a ModelEndpoint: `reconcile`, and what it observes and applies."""
