"""Tenants, projects and keys: small, transactional, in SQL; SQLite on one machine, PostgreSQL in a cluster."""
