"""How the landmark network is made."""
