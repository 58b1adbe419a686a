"""What an exported model is measured by: `evaluate`. The verdict on the figures is the lifecycle's."""
