"""How many jobs queues and job classes have now, and how many are usual at this hour of the week."""
