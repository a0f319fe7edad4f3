"""What templates draw: values in, values out. Pure."""
