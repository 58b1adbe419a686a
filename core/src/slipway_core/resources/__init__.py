"""The two resources, TrainingRun and ModelEndpoint, and their status: strict frozen models, each with its rules."""
