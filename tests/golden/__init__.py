"""The outside of Queuedeck as it is promised: committed files, and tests that compare the real thing with them."""
