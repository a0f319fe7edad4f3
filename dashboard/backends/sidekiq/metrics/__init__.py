"""What Sidekiq's metrics page shows besides its job classes."""
