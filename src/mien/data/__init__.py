"""Records, protocols, crops and predictions."""
