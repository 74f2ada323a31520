"""Training of the recogniser, the landmark and action networks and the editor."""
