"""Results become tables, drawings and reports."""
