"""What an exported model is measured by: `evaluate`."""
