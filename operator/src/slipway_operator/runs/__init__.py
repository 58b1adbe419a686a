"""One pass over a TrainingRun: `reconcile`, and what it observes and applies."""
