"""The values behind the masks of a job."""
