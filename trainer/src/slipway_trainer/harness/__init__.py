"""Tasks of lm-evaluation-harness: its own task code and metrics, in a process of its own that asks for likelihoods and
answers. `worker` is the one module of the trainer that imports the library."""
