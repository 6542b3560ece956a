"""The one memory plan: all that an engine takes, worked out before anything is loaded. Needs no torch."""
