"""What libraries leave behind in Redis when workers die or keys are deleted by hand."""
