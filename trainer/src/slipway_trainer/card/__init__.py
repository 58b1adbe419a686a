"""The model card: what people read of a model, told from its manifest."""
