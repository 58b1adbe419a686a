"""What is made for an endpoint: a Deployment for each version, and what stands around them."""
