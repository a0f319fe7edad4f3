"""What the pages of SLOs show."""
