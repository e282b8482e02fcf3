"""`bcrit landscape`: the winners of a run trained again, and the landscape around them measured and stored."""
