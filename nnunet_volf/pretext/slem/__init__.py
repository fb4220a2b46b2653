"""SLeM: blocks of co-registered channels are exchanged, and the encoder tells which exchange it was."""
