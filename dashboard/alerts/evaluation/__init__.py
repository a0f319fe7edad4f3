"""From rules and one sample to alert states: pure functions and values without Redis or a clock."""
