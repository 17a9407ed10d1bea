"""One file a command; stages meet through files on disk."""
