"""What each person may do with which queues: rights, and the grants of the settings that give and deny them."""
