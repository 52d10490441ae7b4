"""What is shown of a run: terminal views."""
