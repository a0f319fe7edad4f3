"""What the page of a job shows: its facts, its story, its payload and its errors."""
