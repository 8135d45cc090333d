"""What a customer pays, and on which days."""
