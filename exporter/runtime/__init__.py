"""What any long-running program needs; nothing here knows of this exporter."""
