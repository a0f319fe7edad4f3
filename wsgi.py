"""The WSGI entry point: `gunicorn wsgi:app`, configured by QUEUEDECK_… in the environment."""

from dashboard import create_app

app = create_app()
