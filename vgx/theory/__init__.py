"""What theory expects of a deep net at its first step."""
