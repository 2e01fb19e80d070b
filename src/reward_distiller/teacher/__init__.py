"""Calls to chat models: endpoints, the ledger, prompt templates, parsing of answers. Knows no torch."""
