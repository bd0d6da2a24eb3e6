"""Contact sheets: queries with their answers, to be looked at."""
