"""Answer queries from an open index: candidates, exact scores, a certificate, records."""
