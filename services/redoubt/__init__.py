"""Redoubt: cited answers from an organisation's own documents, on models it holds itself."""

__version__ = "0.1.0"
