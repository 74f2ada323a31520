"""From a finished run to the files that ship."""
