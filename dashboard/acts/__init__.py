"""What people have done to jobs: at once or as bulk work, with a bin to undo deletes from and a record of every act."""
