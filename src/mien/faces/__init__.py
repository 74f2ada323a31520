"""From a picture to its faces."""
