"""Files in, files out, whole or not at all."""
