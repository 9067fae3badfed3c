"""Machines: set-up, images and the routines that drive them."""
