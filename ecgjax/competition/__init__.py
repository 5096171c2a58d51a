"""The competition's folders, score and submission."""
