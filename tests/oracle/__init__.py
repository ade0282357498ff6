"""The oracle: formats and rounding by their definitions, over `fractions.Fraction`, one number at a time.

Slow, small, and written without looking at `lpref.ref` (it imports nothing of it): a format is a list of fractions,
rounding looks for the two neighbours in that list. `lpref.ref` is tested against this, the fast code against `lpref.ref`.
"""
