"""Results become answers and findings in words."""
