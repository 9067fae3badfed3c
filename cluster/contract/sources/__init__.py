"""Wire formats and dialects: foreign payloads in, contract columns out."""
