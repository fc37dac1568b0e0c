"""How the laboratory is reached: each face translates a protocol to the contract and back."""
