"""What the overview shows: figures, table, heat map and wall board."""
