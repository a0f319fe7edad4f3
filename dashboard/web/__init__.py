"""The pages and the JSON API: a Flask app that can be mounted in other WSGI apps."""
