"""DigitDetector: finds digits on pages; trained on pages drawn while it trains."""
