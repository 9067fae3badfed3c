"""The Delta tables: layout, staging, commits and scans."""
