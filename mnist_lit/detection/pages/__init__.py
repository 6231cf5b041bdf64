"""Synthetic pages: handwritten numbers among everything else that is found on paper."""
