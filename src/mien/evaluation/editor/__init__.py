"""How edits are judged."""
