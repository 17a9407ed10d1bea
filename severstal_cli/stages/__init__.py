"""One file per command. Stages exchange data through files on disk only."""
