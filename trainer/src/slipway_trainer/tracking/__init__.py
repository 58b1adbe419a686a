"""What a run shows in W&B, MLflow and TensorBoard. Their libraries are imported by the processes that speak to them."""
