"""What pages show of rights."""
