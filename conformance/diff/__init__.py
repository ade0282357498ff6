"""`lpref diff`: other implementations against the definition; see `lpref.conformance.targets` for who answers."""
