"""The pure core: what happens next, as a function of state, event and now. No I/O, no clock."""
