"""A team that plans price changes of a shop, has them approved and carries them out."""
