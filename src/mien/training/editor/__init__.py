"""How the editor's weights are made."""
