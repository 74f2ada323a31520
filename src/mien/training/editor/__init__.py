"""Training of the editor's networks, and fitting of its blendshapes and shading."""
