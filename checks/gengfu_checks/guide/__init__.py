"""The built-in knowledge base: for every code a category, title, summary, meaning and remedy in Chinese and English."""
