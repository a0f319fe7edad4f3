"""Ways to tell people: one module per kind of channel, all behind `base.Channel`."""
