"""View models: turn values into what templates draw. Pure."""
