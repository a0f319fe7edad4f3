"""The pages and the JSON API: a Flask app of our own, mounted wherever it is wanted."""
