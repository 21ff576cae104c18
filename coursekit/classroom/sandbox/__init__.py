"""The box a student's kernel runs in: no network, a read-only system, a private home, limits, and no way back."""
