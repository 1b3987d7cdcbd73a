"""Results drawn on their videos."""
