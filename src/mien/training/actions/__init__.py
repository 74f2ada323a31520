"""Training of the network of facial actions."""
