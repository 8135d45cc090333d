"""What an agent may do: profiles, the files they are written in, and the restricted shell."""
