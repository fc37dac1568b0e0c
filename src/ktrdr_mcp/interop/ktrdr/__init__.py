"""Model directories as KTRDR writes and reads them."""
