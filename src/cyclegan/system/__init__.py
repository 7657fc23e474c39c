"""Devices, threads, files and processes."""
