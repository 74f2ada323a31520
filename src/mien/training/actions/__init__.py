"""How the network of facial actions is made."""
