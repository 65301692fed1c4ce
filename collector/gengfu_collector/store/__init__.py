"""Where the truth is kept. Knows tables, transactions and nothing of what they mean."""
