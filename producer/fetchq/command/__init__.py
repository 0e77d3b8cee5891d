"""What the programs of worker and gateway share: settings from flags and variables, output, exit statuses."""
